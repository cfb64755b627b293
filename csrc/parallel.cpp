#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__unix__)
#include <pthread.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace polyfield {
namespace {

// An OpenMP region in a forked child hangs when the parent used OpenMP before, so a child works alone.
std::atomic<bool> forked_child{false};
#if defined(__unix__)
const int fork_hook = pthread_atfork(nullptr, nullptr, [] { forked_child = true; });
#endif

#if !defined(_OPENMP)
std::atomic<int> wanted_threads{0};
thread_local bool at_work = false;  // within a region: what is called there works alone
#endif

int64_t range_edge(int64_t n, int64_t grain, int64_t part, int64_t parts) {
  const int64_t blocks = (n + grain - 1) / grain;
  return std::min(n, blocks * part / parts * grain);
}

// The first exception of several threads: one that left its thread would end the process.
class Caught {
 public:
  template <class Job>
  void call(Job&& job, int t) noexcept {
    try {
      job(t);
    } catch (...) {
      const std::lock_guard<std::mutex> alone(mutex_);
      if (!first_) first_ = std::current_exception();
    }
  }
  void rethrow() {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr first_;
};

// Runs job(t) for t in [0, threads). Where some of them throw, the first of them throws here, after all have ended.
template <class Job>
void run_on(int threads, Job&& job) {
  if (threads == 1) {
    job(0);
    return;
  }
  Caught caught;
#if defined(_OPENMP)
#pragma omp parallel num_threads(threads)
  {
    // The runtime may grant fewer threads than asked for: the rest of the parts are then done in turn.
    for (int t = omp_get_thread_num(); t < threads; t += omp_get_num_threads()) caught.call(job, t);
  }
#else
  std::vector<std::thread> others;
  const auto work = [&](int t) {
    at_work = true;
    caught.call(job, t);
    at_work = false;
  };
  for (int t = 1; t < threads; ++t) others.emplace_back(work, t);
  work(0);
  for (auto& other : others) other.join();
#endif
  caught.rethrow();
}

}  // namespace

int thread_count() {
  if (forked_child) return 1;
#if defined(_OPENMP)
  return omp_in_parallel() ? 1 : omp_get_max_threads();
#else
  if (at_work) return 1;
  const int wanted = wanted_threads;
  return wanted > 0 ? wanted : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
#endif
}

void set_thread_count(int count) {
#if defined(_OPENMP)
  omp_set_num_threads(count);
#else
  wanted_threads = count;
#endif
}

void parallel_for(int64_t n, int64_t grain, void* context, RangeBody body) {
  if (n <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t blocks = (n + grain - 1) / grain;
  const int threads = static_cast<int>(std::min<int64_t>(thread_count(), blocks));
  run_on(threads, [&](int t) {
    const int64_t begin = range_edge(n, grain, t, threads);
    const int64_t end = range_edge(n, grain, t + 1, threads);
    if (begin < end) body(context, begin, end, t);
  });
}

void parallel_tasks(int64_t n, void* context, RangeBody body) {
  if (n <= 0) return;
  const int threads = static_cast<int>(std::min<int64_t>(thread_count(), n));
  std::atomic<int64_t> next{0};
  run_on(threads, [&](int t) {
    for (int64_t task = next++; task < n; task = next++) body(context, task, task + 1, t);
  });
}

}  // namespace polyfield
