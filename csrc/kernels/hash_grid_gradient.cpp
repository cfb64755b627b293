#include "kernels/hash_grid_gradient.h"

#include "kernels/hash_grid_lattice.h"
#include "parallel.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

using namespace lattice;

constexpr int64_t grain = 512;  // points; less is not worth another thread

PF_INLINE vf minus(vf a, vf b) { return a - b; }
PF_INLINE Dual minus(Dual a, Dual b) { return {a.value - b.value, a.slope - b.slope}; }
PF_INLINE vf plus(vf a, vf b) { return a + b; }
PF_INLINE Dual plus(Dual a, Dual b) { return {a.value + b.value, a.slope + b.slope}; }

// The derivative by x of sum(dots[c] * weight[c]), added to `out`. With Number = Dual: of its derivative along `along`.
template <class Number, int D>
PF_INLINE void add_gradient(const Cell<D>& cell, const vf* along, bool smooth, const float (*dots)[W], vf (&out)[D]) {
  Number low[D], high[D];
  axis_factors(cell, along, smooth, low, high);
  for (int axis = 0; axis < D; ++axis) {
    // d weight / d x is -steepness on the low side of this axis and +steepness on the high side.
    const vf first = hash_grid_step_first(cell.t[axis], smooth) * cell.scale[axis];
    vf second = {};
    if (along != nullptr)
      second = hash_grid_step_second(cell.t[axis], smooth) * cell.scale[axis] * cell.scale[axis] * along[axis];
    const Number steepness = as_number(first, second, Number{});
    Number part[1 << D];
    for (int c = 0; c < 1 << D; ++c) part[c] = as_number(load(dots[c]), vf{}, Number{});
    for (int d = D - 1; d >= 0; --d) {  // contract the axes, highest first: the rest keeps its numbering
      for (int c = 0; c < 1 << d; ++c) {
        const Number left = part[c], right = part[c | 1 << d];
        part[c] = d == axis ? times(minus(right, left), steepness) : plus(times(left, low[d]), times(right, high[d]));
      }
    }
    out[axis] += select(cell.valid, result(part[0]), vf{});
  }
}

template <int F>
PF_INLINE float dot(entry<F> a, const float* b) {
  float values[F], total = 0.f;
  store_entry<F>(values, a);
  for (int f = 0; f < F; ++f) total += values[f] * b[f];
  return total;
}

// What is known of W points before their entries are read.
template <int D>
struct Step {
  Cell<D> cell;
  alignas(64) uint32_t index[1 << D][W];
};

template <int D, int F>
PF_INLINE void add_step(const HashGridJob& job, const Step<D>& step, const float* entries, const float (*rows)[F],
                        int64_t n, int count, float* out) {
  alignas(64) float dots[1 << D][W];
  for (int p = 0; p < W; ++p)
    for (int c = 0; c < 1 << D; ++c)
      dots[c][p] = dot<F>(load_entry<F>(entries + static_cast<uint64_t>(step.index[c][p]) * F), rows[p]);
  vf gradient[D];
  load_rows<D>(out + n * D, count, gradient);
  if (job.along != nullptr) {
    vf along[D];
    load_rows<D>(job.along + n * D, count, along);
    add_gradient<Dual>(step.cell, along, job.smooth, dots, gradient);
  } else {
    add_gradient<vf>(step.cell, nullptr, job.smooth, dots, gradient);
  }
  for (int p = 0; p < count; ++p)
    for (int d = 0; d < D; ++d) out[(n + p) * D + d] = gradient[d][p];
}

template <int D, int F>
void gradient_level(const HashGridJob& job, int l, const float* table, const HashGridUpstream& upstream, float* out,
                    int64_t begin, int64_t end) {
  const HashGridLevel& level = job.levels[l];
  const float* entries = table + level.offset * F;
  Step<D> ring[ahead + 1];
  int slot = 0;
  for (int64_t n = begin - ahead * W; n < end; n += W) {
    const int64_t next = n + ahead * W;
    if (next < end) {
      Step<D>& step = ring[slot];
      step.cell = locate<D>(level, job.x + next * D, block_size(next, end));
      corner_entries(level, step.cell, step.index);
      prefetch<D, F>(step.index, entries);
    }
    slot = slot == ahead ? 0 : slot + 1;
    if (n >= begin) {
      const int count = block_size(n, end);
      alignas(64) float rows[W][F];
      load_upstream<F>(upstream, l * F, n, count, rows);
      add_step<D, F>(job, ring[slot], entries, rows, n, count, out);
    }
  }
}

template <int D, int F>
void gradient(const HashGridJob& job, const float* table, const HashGridUpstream& upstream, float* out) {
  parallel_for(job.points, grain, [&](int64_t begin, int64_t end, int) {
    __builtin_memset(out + begin * D, 0, sizeof(float) * D * (end - begin));
    for (int l = 0; l < job.level_count; ++l) gradient_level<D, F>(job, l, table, upstream, out, begin, end);
  });
}

void any_gradient(const HashGridJob& job, const float* table, HashGridUpstream upstream, float* out) {
#define POLYFIELD_RUN(D, F) gradient<D, F>(job, table, upstream, out)
  POLYFIELD_HASH_GRID_CASES(POLYFIELD_RUN, job)
#undef POLYFIELD_RUN
}

}  // namespace

const HashGridGradientKernels hash_grid_gradient = {any_gradient};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
