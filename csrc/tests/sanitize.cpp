// Drives every kernel family on small and odd sizes with several threads, for the sanitizers to watch: see sanitize.sh.
// Families are driven by the files beside this one, sanitize_*.cpp, each of which adds itself.
#include <cstdint>
#include <cstdio>
#include <stdexcept>

#include "kernels/ceilings.h"
#include "parallel.h"
#include "tests/watched.h"

using namespace polyfield;

namespace {

void drive_parallel() {
  for (int threads : {1, 2, 3, 5}) {
    set_thread_count(threads);
    for (int64_t n : {0, 1, 2, 7, 64, 1000}) {
      for (int64_t grain : {1, 3, 64}) {
        Buffer<int> seen(n);
        parallel_for(n, grain, [&](int64_t begin, int64_t end, int thread) {
          expect(begin < end && (begin % grain == 0) && thread < threads, "parallel_for: a range is off");
          for (int64_t i = begin; i < end; ++i) ++seen[i];
        });
        for (int64_t i = 0; i < n; ++i) expect(seen[i] == 1, "parallel_for: an index not visited once");
      }
      Buffer<int> seen(n);
      parallel_tasks(n, [&](int64_t task, int) { ++seen[task]; });
      for (int64_t i = 0; i < n; ++i) expect(seen[i] == 1, "parallel_tasks: a task not done once");
    }
    bool caught = false;
    try {
      parallel_tasks(64, [&](int64_t task, int) {
        if (task % 7 == 3) throw std::runtime_error("on purpose");
      });
    } catch (const std::runtime_error&) {
      caught = true;
    }
    expect(caught, "parallel_tasks: an exception got lost");
    parallel_for(4, 1, [&](int64_t, int64_t, int) { expect(threads == 1 || thread_count() == 1, "a region within a region"); });
  }
}

void drive_ceilings() {
  expect(ceilings().multiply_fp32(3) > 0 && ceilings().multiply_bf16(3) > 0, "ceilings did nothing");
  Buffer<uint64_t> table(100, 1);
  Buffer<int32_t> indices(64);
  for (int i = 0; i < 64; ++i) indices[i] = i * 37 % 100;
  expect(ceilings().gather(table, indices, 64) == 64, "a gather read something else");
  Floats from = randoms(100, 0, 1), to(100);
  ceilings().copy(to, from, 100);
}

}  // namespace

int main() {
  drive_parallel();
  drive_ceilings();
  for (int threads : {1, 3}) {
    set_thread_count(threads);
    for (int64_t n : {0, 1, 15, 16, 17, 131})
      for (Driver driver : drivers()) driver(n);
  }
  std::printf(findings == 0 ? "sanitize: nothing found\n" : "sanitize: %d findings\n", findings);
  return findings == 0 ? 0 : 1;
}
