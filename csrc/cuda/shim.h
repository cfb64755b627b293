// CUDA's kernel language on the host: each thread of a block is a fibre, blocks run one after another.
//
// Fibres switch only at barriers and warp operations, so what a kernel reads before the barrier that it should have waited for is
// what the fibres ran so far have written. `run_backwards` starts them from the last to the first: a kernel that
// lacks a barrier then gives another answer, and the tests run both orders. A barrier that a part of the block never
// reaches is an error. Not modelled: weak memory order, more than one warp's worth of divergence rules, time.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __shared__ static  // blocks run in turn, on one thread

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace polyfield {
namespace shim {

struct Place {
  uint3 thread, block;
  dim3 block_size, grid_size;
};
extern Place place;  // of the fibre that runs

void launch(dim3 grid, dim3 block, size_t shared, const std::function<void()>& kernel);
void* shared_memory();
void set_run_backwards(bool backwards);

void wait_for_block();
// Hands every lane's value round its warp: returns that of lane `source` (its own where there is no such lane).
float exchange(float value, int source);
int lane();

}  // namespace shim
}  // namespace polyfield

#define threadIdx (::polyfield::shim::place.thread)
#define blockIdx (::polyfield::shim::place.block)
#define blockDim (::polyfield::shim::place.block_size)
#define gridDim (::polyfield::shim::place.grid_size)

inline void __syncthreads() { ::polyfield::shim::wait_for_block(); }
inline void __syncwarp(unsigned = 0xffffffffu) { ::polyfield::shim::exchange(0.f, 0); }
inline float __shfl_sync(unsigned, float value, int source) { return ::polyfield::shim::exchange(value, source); }
inline float __shfl_up_sync(unsigned, float value, int by) {
  return ::polyfield::shim::exchange(value, ::polyfield::shim::lane() - by);
}
inline float __shfl_down_sync(unsigned, float value, int by) {
  return ::polyfield::shim::exchange(value, ::polyfield::shim::lane() + by);
}
inline float __shfl_xor_sync(unsigned, float value, int mask) {
  return ::polyfield::shim::exchange(value, ::polyfield::shim::lane() ^ mask);
}

inline float atomicAdd(float* address, float value) {
  const float old = *address;
  *address = old + value;
  return old;
}
inline int atomicOr(int* address, int value) {
  const int old = *address;
  *address = old | value;
  return old;
}
template <class T>
T __ldg(const T* address) {
  return *address;
}
