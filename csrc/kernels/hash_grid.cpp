#include "kernels/hash_grid.h"

#include "kernels/hash_grid_lattice.h"
#include "parallel.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

using namespace lattice;

constexpr int64_t forward_grain = 1024;  // points; less is not worth another thread

template <int D, int F>
PF_INLINE void interpolate(const Corners<D>& corners, const float* entries, float* out, int64_t feature_stride, int count) {
  alignas(64) float rows[W][F];
  for (int p = 0; p < W; ++p) {
    entry<F> sum = {};
    for (int c = 0; c < 1 << D; ++c)
      sum += corners.weight[c][p] * load_entry<F>(entries + static_cast<uint64_t>(corners.index[c][p]) * F);
    store_entry<F>(rows[p], sum);
  }
  for (int f = 0; f < F; ++f) {
    vf feature;
    for (int p = 0; p < W; ++p) feature[p] = rows[p][f];
    if (count == W)
      store(out + f * feature_stride, feature);
    else
      store_part(out + f * feature_stride, feature, count);
  }
}

template <int D, int F>
void forward_level(const HashGridJob& job, const HashGridLevel& level, const float* table, float* out, int64_t begin,
                   int64_t end) {
  const float* entries = table + level.offset * F;
  Corners<D> ring[ahead + 1];
  int slot = 0;
  for (int64_t n = begin - ahead * W; n < end; n += W) {
    const int64_t next = n + ahead * W;
    if (next < end) {
      Corners<D>& corners = ring[slot];
      find_corners<D>(job, level, next, block_size(next, end), __builtin_nanf(""), corners);
      prefetch<D, F>(corners.index, entries);
    }
    slot = slot == ahead ? 0 : slot + 1;
    if (n >= begin) interpolate<D, F>(ring[slot], entries, out + n, job.points, block_size(n, end));
  }
}

template <int D, int F>
void forward(const HashGridJob& job, const float* table, float* out) {
  parallel_for(job.points, forward_grain, [&](int64_t begin, int64_t end, int) {
    for (int l = 0; l < job.level_count; ++l)
      forward_level<D, F>(job, job.levels[l], table, out + l * F * job.points, begin, end);
  });
}

// With one feature two levels can share a line, and two threads may mark it at once; the store is a plain one.
PF_INLINE void mark(uint8_t* line) { __atomic_store_n(line, 1, __ATOMIC_RELAXED); }

// What scatter knows about W points before it adds them.
template <int D>
struct Step {
  Corners<D> corners;
  int32_t repeats[W];
};

// Finds the corners of W points and asks for their lines, which the next call of add_step will write.
template <int D, int F>
PF_INLINE void begin_step(const HashGridJob& job, const HashGridLevel& level, int64_t point, int count, float* entries,
                          Step<D>& step) {
  find_repeats(find_corners<D>(job, level, point, count, 0.f, step.corners), step.repeats);
  step.repeats[0] = 0;
  for (int p = 0; p < count; ++p) {
    if (step.repeats[p]) continue;
    for (int c = 0; c < 1 << D; ++c) {
      const int64_t place = static_cast<int64_t>(step.corners.index[c][p]) * F;
      __builtin_prefetch(entries + place, 1);
    }
  }
}

// Points of the same cell that follow each other are summed in registers first: along a ray, coarse cells hold many.
template <int D, int F>
PF_INLINE void add_step(const Step<D>& step, const float (*rows)[F], int count, float* entries, int64_t shift,
                        uint8_t* marks) {
  const Corners<D>& corners = step.corners;
  for (int p = 0; p < count;) {
    const int first = p;
    entry<F> sum[1 << D];
    entry<F> row = load_entry<F>(rows[p]);
    for (int c = 0; c < 1 << D; ++c) sum[c] = corners.weight[c][p] * row;
    while (++p < count && step.repeats[p]) {
      row = load_entry<F>(rows[p]);
      for (int c = 0; c < 1 << D; ++c) sum[c] += corners.weight[c][p] * row;
    }
    for (int c = 0; c < 1 << D; ++c) {
      const int64_t place = static_cast<int64_t>(corners.index[c][first]) * F;
      store_entry<F>(entries + place, load_entry<F>(entries + place) + sum[c]);
    }
    if (marks == nullptr) continue;
    // Measured slower: a mark only where neighbours differ in their line, bits instead of bytes.
    for (int c = 0; c < 1 << D; ++c) mark(marks + (shift + static_cast<int64_t>(corners.index[c][first]) * F) / 16);
  }
}

template <int D, int F>
void scatter_level(const HashGridJob& job, const HashGridLevel& level, int64_t first_feature,
                   const HashGridUpstream& upstream, float* values, uint8_t* touched, int64_t begin, int64_t end) {
  float* entries = values + level.offset * F;
  const int64_t shift = level.offset * F % 16;  // a level may begin inside a line
  uint8_t* marks = touched == nullptr ? nullptr : touched + level.offset * F / 16;
  Step<D> ring[ahead + 1];
  int slot = 0;
  for (int64_t n = begin - ahead * W; n < end; n += W) {
    const int64_t next = n + ahead * W;
    if (next < end) begin_step<D, F>(job, level, next, block_size(next, end), entries, ring[slot]);
    slot = slot == ahead ? 0 : slot + 1;
    if (n >= begin) {
      const int count = block_size(n, end);
      alignas(64) float rows[W][F];
      load_upstream<F>(upstream, first_feature, n, count, rows);
      add_step<D, F>(ring[slot], rows, count, entries, shift, marks);
    }
  }
}

// Shares out the chunks of all levels: a level's chunks are done one after the other, in order, so that its sums do
// not depend on who does them. A thread stays with its level, whose lines are in its cache, while there are levels
// enough for the others; then the level with most left goes first, so that the threads end together.
class Chunks {
 public:
  Chunks(int levels, int64_t per_level, int threads) : levels_(levels), threads_(threads) {
    for (int l = 0; l < levels; ++l) left_[l] = per_level;
  }

  // Gives back level `done` (or -1) and takes another; -1 when every level is finished or in other hands.
  int next(int done, int64_t& left) {
    while (__atomic_test_and_set(&locked_, __ATOMIC_ACQUIRE)) {
    }
    int best = -1, waiting = 0;
    for (int l = 0; l < levels_; ++l) {
      if (taken_[l] || left_[l] == 0) continue;
      ++waiting;
      if (best < 0 || left_[l] > left_[best]) best = l;
    }
    if (done >= 0) {
      const bool stays = waiting >= threads_ || best < 0 || left_[done] >= left_[best];
      if (left_[done] > 0 && stays) best = done;
      taken_[done] = false;
    }
    if (best >= 0) {
      taken_[best] = true;
      left = left_[best]--;
    }
    __atomic_clear(&locked_, __ATOMIC_RELEASE);
    return best;
  }

 private:
  int levels_, threads_;
  bool locked_ = false;
  bool taken_[hash_grid_max_levels] = {};
  int64_t left_[hash_grid_max_levels];
};

// Independent of the number of threads, as which points share a block decides how sums are rounded.
int64_t chunk_size(int64_t points) {
  const int64_t eighth = (points / 8 + W - 1) / W * W;
  return eighth < 1024 ? 1024 : eighth > 16384 ? 16384 : eighth;
}

template <int D, int F>
void scatter(const HashGridJob& job, const HashGridUpstream& upstream, float* values, uint8_t* touched) {
  if (job.points == 0) return;
  const int64_t chunk = chunk_size(job.points), chunks = (job.points + chunk - 1) / chunk;
  const int workers = thread_count() < job.level_count ? thread_count() : job.level_count;
  Chunks queue(job.level_count, chunks, workers);
  parallel_for(chunks == 1 && job.points < 256 ? 1 : workers, 1, [&](int64_t, int64_t, int) {
    int64_t left = 0;
    for (int l = queue.next(-1, left); l >= 0; l = queue.next(l, left)) {
      const int64_t begin = (chunks - left) * chunk;
      const int64_t end = begin + chunk < job.points ? begin + chunk : job.points;
      scatter_level<D, F>(job, job.levels[l], l * F, upstream, values, touched, begin, end);
    }
  });
}

void any_forward(const HashGridJob& job, const float* table, float* out) {
#define POLYFIELD_RUN(D, F) forward<D, F>(job, table, out)
  POLYFIELD_HASH_GRID_CASES(POLYFIELD_RUN, job)
#undef POLYFIELD_RUN
}

void any_scatter(const HashGridJob& job, HashGridUpstream upstream, float* values, uint8_t* touched) {
#define POLYFIELD_RUN(D, F) scatter<D, F>(job, upstream, values, touched)
  POLYFIELD_HASH_GRID_CASES(POLYFIELD_RUN, job)
#undef POLYFIELD_RUN
}

}  // namespace

const HashGridKernels hash_grid = {any_forward, any_scatter};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
