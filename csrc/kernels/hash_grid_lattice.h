// Where W points lie in one level's lattice: entries of the corners of their cells, and the corners' weights.
//
// Weights are products over the axes, so they are computed in a number type: vf for the weights, Dual for their
// derivative along a direction. One text serves forward, backward and second derivatives.
#pragma once

#include "kernels/hash_grid.h"
#include "simd.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace lattice {

// A number and its derivative.
struct Dual {
  vf value, slope;
};
PF_INLINE vf times(vf a, vf b) { return a * b; }
PF_INLINE Dual times(Dual a, Dual b) { return {a.value * b.value, fma(a.slope, b.value, a.value * b.slope)}; }
PF_INLINE vf result(vf a) { return a; }
PF_INLINE vf result(Dual a) { return a.slope; }

PF_INLINE vf as_number(vf value, vf, vf) { return value; }
PF_INLINE Dual as_number(vf value, vf slope, Dual) { return {value, slope}; }

// Cells of W points. Points are clamped to [0, 1]; the slope of a clamped coordinate is 0.
template <int D>
struct Cell {
  vu corner[D];  // lowest corner
  vf t[D];       // place inside the cell
  vf scale[D];   // d t / d x: the level's scale, or 0 where clamped
  vi valid;      // lanes of -1; 0 where a coordinate is NaN
};

// W rows of D floats into D vectors; rows from `count` on are zero.
template <int D>
PF_INLINE void load_rows(const float* rows, int count, vf (&axis)[D]) {
  float block[D * W];
  if (count < W) {
    __builtin_memset(block, 0, sizeof block);
    __builtin_memcpy(block, rows, sizeof(float) * D * count);
    rows = block;
  }
  for (int d = 0; d < D; ++d)
    for (int i = 0; i < W; ++i) axis[d][i] = rows[i * D + d];
}

template <int D>
PF_INLINE Cell<D> locate(const HashGridLevel& level, const float* x, int count) {
  vf axis[D];
  load_rows<D>(x, count, axis);
  Cell<D> cell;
  cell.valid = axis[0] == axis[0];
  for (int d = 1; d < D; ++d) cell.valid &= axis[d] == axis[d];
  const vf zero = {}, one = splat(1.f);
  for (int d = 0; d < D; ++d) {
    const vf clamped = select(cell.valid, min(max(axis[d], zero), one), zero);
    const vf position = fma(splat(level.scale), clamped, splat(level.shift));
    const vf whole = floor(position);
    cell.corner[d] = (vu)to_int(whole);
    cell.t[d] = position - whole;
    cell.scale[d] = select(clamped == axis[d], splat(level.scale), zero);
  }
  return cell;
}

// Entries (within the level) of the 2^D corners; bit d of the corner's number is its step along axis d.
template <int D>
PF_INLINE void corner_entries(const HashGridLevel& level, const Cell<D>& cell, uint32_t (*index)[W]) {
  const bool hashed = level.rule == hashed_rule;
  vu joined[1 << D];
  for (int d = 0; d < D; ++d) {
    const vu low = hash_grid_term(cell.corner[d], d, hashed, level.stride);
    const vu high = hash_grid_term(cell.corner[d] + 1u, d, hashed, level.stride);
    for (int c = (1 << d) - 1; c >= 0; --c) {
      joined[c | 1 << d] = d == 0 ? high : hash_grid_join(joined[c], high, hashed);
      joined[c] = d == 0 ? low : hash_grid_join(joined[c], low, hashed);
    }
  }
  for (int c = 0; c < 1 << D; ++c) {
    vu entry = joined[c];
    if (hashed) {
      entry &= level.entries - 1;
    } else if (level.rule == dense_rule) {
      entry -= (vu)(entry >= level.entries) & level.entries;
    } else {
      entry %= level.entries;
    }
    __builtin_memcpy(index[c], &entry, sizeof entry);
  }
}

// Factors of the weights: low and high corner of axis d. With Number = Dual, `along` is the direction's component.
template <class Number, int D>
PF_INLINE void axis_factors(const Cell<D>& cell, const vf* along, bool smooth, Number (&low)[D], Number (&high)[D]) {
  for (int d = 0; d < D; ++d) {
    const vf step = hash_grid_step(cell.t[d], smooth);
    vf slope = {};
    if (along != nullptr) slope = along[d] * cell.scale[d] * hash_grid_step_first(cell.t[d], smooth);
    low[d] = as_number(1.f - step, -slope, Number{});
    high[d] = as_number(step, slope, Number{});
  }
}

// Weights of the 2^D corners (their derivative with Number = Dual). NaN points weigh `invalid`.
template <class Number, int D>
PF_INLINE void corner_weights(const Cell<D>& cell, const vf* along, bool smooth, float invalid, float (*weight)[W]) {
  Number low[D], high[D], product[1 << D];
  axis_factors(cell, along, smooth, low, high);
  for (int d = 0; d < D; ++d) {
    for (int c = (1 << d) - 1; c >= 0; --c) {
      product[c | 1 << d] = d == 0 ? high[0] : times(product[c], high[d]);
      product[c] = d == 0 ? low[0] : times(product[c], low[d]);
    }
  }
  for (int c = 0; c < 1 << D; ++c) store(weight[c], select(cell.valid, result(product[c]), splat(invalid)));
}

// Entries and weights of W points.
template <int D>
struct Corners {
  alignas(64) uint32_t index[1 << D][W];
  alignas(64) float weight[1 << D][W];
};

template <int D>
PF_INLINE Cell<D> find_corners(const HashGridJob& job, const HashGridLevel& level, int64_t point, int count,
                            float invalid, Corners<D>& out) {
  const Cell<D> cell = locate<D>(level, job.x + point * D, count);
  corner_entries(level, cell, out.index);
  if (job.along != nullptr) {
    vf along[D];
    load_rows<D>(job.along + point * D, count, along);
    corner_weights<Dual>(cell, along, job.smooth, invalid, out.weight);
  } else {
    corner_weights<vf>(cell, nullptr, job.smooth, invalid, out.weight);
  }
  return cell;
}

// Whether each point lies in the cell of the point before it (-1) or not (0); the first lane means nothing.
template <int D>
PF_INLINE void find_repeats(const Cell<D>& cell, int32_t (&repeats)[W]) {
  vi same = cell.valid | ~cell.valid;
  for (int d = 0; d < D; ++d) {
    uint32_t shifted[W + 1] = {};
    __builtin_memcpy(shifted + 1, &cell.corner[d], sizeof(vu));
    vu before;
    __builtin_memcpy(&before, shifted, sizeof before);
    same &= cell.corner[d] == before;
  }
  store_i(repeats, same);
}

// The F features of one entry. Two of them ride in the lower half of four: compilers treat vectors of 8 bytes badly.
template <int F>
struct Entry {
  typedef float type __attribute__((vector_size((F == 2 ? 4 : F) * 4)));
};
template <>
struct Entry<1> {
  typedef float type;
};
template <int F>
using entry = typename Entry<F>::type;
typedef double doubles __attribute__((vector_size(16)));

template <int F>
PF_INLINE entry<F> load_entry(const float* p) {
  if constexpr (F == 2) {
    double both;
    __builtin_memcpy(&both, p, sizeof both);
    return (entry<F>)doubles{both, 0.};
  } else {
    entry<F> v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
}
template <int F>
PF_INLINE void store_entry(float* p, entry<F> v) {
  if constexpr (F == 2) {
    const double both = ((doubles)v)[0];
    __builtin_memcpy(p, &both, sizeof both);
  } else {
    __builtin_memcpy(p, &v, sizeof v);
  }
}

// Blocks of W points between asking for lines and using them: without it a core waits for memory most of the time.
constexpr int ahead = 2;

PF_INLINE int block_size(int64_t begin, int64_t end) { return end - begin < W ? static_cast<int>(end - begin) : W; }

// Asks for the lines of all entries that W points will need.
template <int D, int F>
PF_INLINE void prefetch(const uint32_t (&index)[1 << D][W], const float* entries) {
  for (int p = 0; p < W; ++p)
    for (int c = 0; c < 1 << D; ++c) __builtin_prefetch(entries + static_cast<uint64_t>(index[c][p]) * F);
}

// Upstream gradient of W points at one level, a row of F for each point; rows from `count` on are zero.
template <int F>
PF_INLINE void load_upstream(const HashGridUpstream& upstream, int64_t first_feature, int64_t point, int count,
                             float (*rows)[F]) {
  const float* data = upstream.data + first_feature * upstream.feature_stride + point * upstream.point_stride;
  for (int p = count; p < W; ++p)
    for (int f = 0; f < F; ++f) rows[p][f] = 0.f;
  if (upstream.feature_stride == 1) {
    for (int p = 0; p < count; ++p) __builtin_memcpy(rows[p], data + p * upstream.point_stride, sizeof rows[p]);
  } else if (upstream.point_stride == 1 && count == W) {
    for (int f = 0; f < F; ++f)
      for (int p = 0; p < W; ++p) rows[p][f] = data[f * upstream.feature_stride + p];
  } else {
    for (int f = 0; f < F; ++f)
      for (int p = 0; p < count; ++p) rows[p][f] = data[f * upstream.feature_stride + p * upstream.point_stride];
  }
}

// Expands run(D, F) for the job's numbers; the Python wrapper lets no others through.
#define POLYFIELD_HASH_GRID_CASES(run, job)                  \
  switch ((job).dim * 16 + (job).features) {                 \
    case 2 * 16 + 1: run(2, 1); break;                       \
    case 2 * 16 + 2: run(2, 2); break;                       \
    case 2 * 16 + 4: run(2, 4); break;                       \
    case 2 * 16 + 8: run(2, 8); break;                       \
    case 3 * 16 + 1: run(3, 1); break;                       \
    case 3 * 16 + 2: run(3, 2); break;                       \
    case 3 * 16 + 4: run(3, 4); break;                       \
    case 3 * 16 + 8: run(3, 8); break;                       \
    case 4 * 16 + 1: run(4, 1); break;                       \
    case 4 * 16 + 2: run(4, 2); break;                       \
    case 4 * 16 + 4: run(4, 4); break;                       \
    case 4 * 16 + 8: run(4, 8); break;                       \
    default: break;                                          \
  }

}  // namespace lattice
}  // namespace POLYFIELD_ISA
}  // namespace polyfield
