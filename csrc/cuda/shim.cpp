// The host shim's fibres, and all CUDA kernels compiled for them.
#include "cuda/shim.h"

#include <ucontext.h>

#include <memory>
#include <stdexcept>
#include <vector>

namespace polyfield {
namespace shim {

Place place = {{0, 0, 0}, {0, 0, 0}, dim3(), dim3()};

namespace {

constexpr size_t stack_bytes = 128 * 1024;
constexpr int warp = 32;

enum class State { ready, at_block, at_warp, done };

struct Fibre {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  State state = State::done;
  uint3 thread = {0, 0, 0};
  float offered[2] = {0, 0};  // values for the warp, of this exchange and the last
  int exchanges = 0;
};

std::vector<Fibre> fibres;  // stacks are kept from launch to launch
ucontext_t scheduler;
int running = 0, count = 0;
bool backwards = false;
const std::function<void()>* kernel = nullptr;
std::vector<double> shared;  // of doubles: aligned well enough for 16 bytes with one to spare

void enter() {
  (*kernel)();
  fibres[running].state = State::done;  // uc_link leads back to the scheduler
}

void pause(State state) {
  const int self = running;
  fibres[self].state = state;
  swapcontext(&fibres[self].context, &scheduler);
}

void resume(int index) {
  running = index;
  place.thread = fibres[index].thread;
  swapcontext(&scheduler, &fibres[index].context);
}

// Lets through those who wait for one another and are complete; false when nobody is.
bool release() {
  bool any = false;
  for (int first = 0; first < count; first += warp) {
    const int end = first + warp < count ? first + warp : count;
    bool all = true, some = false;
    for (int i = first; i < end; ++i) {
      if (fibres[i].state == State::at_warp) some = true;
      if (fibres[i].state == State::at_block) all = false;
    }
    if (!some || !all) continue;
    any = true;
    for (int i = first; i < end; ++i)
      if (fibres[i].state == State::at_warp) fibres[i].state = State::ready;
  }
  if (any) return true;
  for (int i = 0; i < count; ++i)
    if (fibres[i].state == State::at_warp) return false;
  for (int i = 0; i < count; ++i)
    if (fibres[i].state == State::at_block) {
      fibres[i].state = State::ready;
      any = true;
    }
  return any;
}

void run_block(dim3 block) {
  for (int i = 0; i < count; ++i) {
    Fibre& fibre = fibres[i];
    fibre.thread = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    fibre.state = State::ready;
    fibre.exchanges = 0;
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack.get();
    fibre.context.uc_stack.ss_size = stack_bytes;
    fibre.context.uc_link = &scheduler;
    makecontext(&fibre.context, enter, 0);
  }
  for (;;) {
    for (int step = 0; step < count; ++step) {
      const int i = backwards ? count - 1 - step : step;
      if (fibres[i].state == State::ready) resume(i);
    }
    bool finished = true;
    for (int i = 0; i < count; ++i) finished = finished && fibres[i].state == State::done;
    if (finished) return;
    if (!release())
      throw std::logic_error("CUDA shim: a part of a warp waits at a barrier of the block, another for its warp.");
  }
}

}  // namespace

void launch(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body) {
  kernel = &body;
  count = static_cast<int>(block.x * block.y * block.z);
  if (count > 1024) throw std::logic_error("CUDA shim: a block has at most 1024 threads.");
  while (static_cast<int>(fibres.size()) < count) {
    fibres.emplace_back();
    fibres.back().stack.reset(new char[stack_bytes]);
  }
  shared.assign(shared_bytes / sizeof(double) + 3, 7e77);  // not zero: a GPU's is not either
  place.block_size = block;
  place.grid_size = grid;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        place.block = {x, y, z};
        run_block(block);
      }
}

void* shared_memory() {
  const auto address = reinterpret_cast<std::uintptr_t>(shared.data());
  return reinterpret_cast<void*>((address + 15) & ~std::uintptr_t{15});
}

void set_run_backwards(bool on) { backwards = on; }

void wait_for_block() { pause(State::at_block); }

int lane() { return running % warp; }

float exchange(float value, int source) {
  const int self = running, slot = fibres[self].exchanges++ % 2;
  fibres[self].offered[slot] = value;
  pause(State::at_warp);
  const int other = self / warp * warp + source;
  // By now a lane that took part may have run on to its end; one that ended before took part in fewer.
  const bool there =
      source >= 0 && source < warp && other < count && fibres[other].exchanges >= fibres[self].exchanges;
  return there ? fibres[other].offered[slot] : value;
}

}  // namespace shim
}  // namespace polyfield

#include "cuda/adam.cu"
#include "cuda/composite.cu"
#include "cuda/frequency.cu"
#include "cuda/hash_grid.cu"
#include "cuda/mlp.cu"
#include "cuda/ray_march.cu"
#include "cuda/spherical_harmonics.cu"
