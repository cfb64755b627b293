// Splitting work over threads: one function, two implementations.
//
// Built with OpenMP it shares torch's pool (the same libgomp by soname), so `torch.set_num_threads`
// rules both. Built without, it starts std::threads: slower, but ThreadSanitizer understands it.
#pragma once

#include <cstdint>

namespace polyfield {

// A plain pointer pair instead of std::function: no allocation, nothing inline to merge across ISAs.
using RangeBody = void (*)(void* context, int64_t begin, int64_t end, int thread);

// Number of threads that parallel_for may use (>= 1; 1 in a forked child, and inside a parallel region).
int thread_count();
void set_thread_count(int count);

// Calls body on disjoint ranges that cover [0, n). Ranges are cut at multiples of `grain`, depend only on
// n, grain and the thread count, and thread t gets the t-th one: results that are summed per thread and
// then in thread order are the same bits every time. `thread` is in [0, thread_count()).
void parallel_for(int64_t n, int64_t grain, void* context, RangeBody body);

// Calls body(task, task + 1, thread) for every task in [0, n), handed out in order to whichever thread is
// free. For tasks of unequal size whose results do not depend on who ran them.
void parallel_tasks(int64_t n, void* context, RangeBody body);

// The same two for lambdas.
template <class Body>
void parallel_for(int64_t n, int64_t grain, Body&& body) {
  parallel_for(n, grain, static_cast<void*>(&body), [](void* c, int64_t b, int64_t e, int t) {
    (*static_cast<Body*>(c))(b, e, t);
  });
}
template <class Body>
void parallel_tasks(int64_t n, Body&& body) {
  parallel_tasks(n, static_cast<void*>(&body), [](void* c, int64_t b, int64_t, int t) {
    (*static_cast<Body*>(c))(b, t);
  });
}

}  // namespace polyfield
