// The multiresolution hash grid (Mueller et al. 2022), one number at a time.
//
// Everything here works alike on scalars (CUDA) and on the vector types of simd.h: F is float or vf, U uint32_t or
// vu, so that both devices walk the same lattice. Geometry as in tiny-cuda-nn: see fields/ops/hash_grid.py.
#pragma once

#include <cstdint>

#include "math/hd.h"

namespace polyfield {

// How a lattice corner becomes an entry of its level's table.
enum HashGridRule : uint32_t {
  dense_rule = 0,    // x + y stride + z stride^2; may pass the end by less than one table length, then wraps
  hashed_rule = 1,   // hash, the number of entries is a power of two
  modulo_rule = 2,   // as dense_rule, but may wrap any number of times
};

// One level; the same 32 bytes are packed by GridGeometry in Python.
struct HashGridLevel {
  int64_t offset;    // first entry of the level in the table
  uint32_t entries;
  uint32_t stride;
  uint32_t rule;
  float scale;       // lattice position = scale * x + shift
  float shift;
  uint32_t unused;
};

constexpr int hash_grid_max_levels = 64;

constexpr uint32_t hash_prime_y = 2654435761u, hash_prime_z = 805459861u, hash_prime_w = 3674653429u;

// What coordinate p of axis d adds to (dense: +, hashed: ^) the index; axis 0 adds p itself in both.
template <class U>
POLYFIELD_HD static inline U hash_grid_term(U p, int d, bool hashed, uint32_t stride) {
  if (d == 0) return p;
  if (hashed) return p * (d == 1 ? hash_prime_y : d == 2 ? hash_prime_z : hash_prime_w);
  return p * (d == 1 ? stride : d == 2 ? stride * stride : stride * stride * stride);
}

template <class U>
POLYFIELD_HD static inline U hash_grid_join(U a, U b, bool hashed) {
  return hashed ? (a ^ b) : (a + b);
}

// Whether every corner of every cell is one of the level's entries. Its last vertex along an axis is the largest
// coordinate of a corner; double holds the sums of the dense rule, whose strides are those of less than 2^32 entries.
static inline bool hash_grid_stays_inside(const HashGridLevel& level, int dim) {
  if (level.rule == hashed_rule) return level.entries > 0 && (level.entries & (level.entries - 1)) == 0;
  if (level.rule != dense_rule) return level.entries > 0;
  const float top = level.scale + level.shift;
  if (!(top >= 0.f && top < 0x1p31f)) return false;
  const double last = (double)(int64_t)top + 1.;
  double index = 0., step = 1.;
  for (int d = 0; d < dim; ++d, step *= level.stride) index += last * step;
  return index < 2. * level.entries;
}

// Interpolation S(t) on [0, 1] and its derivatives: t, or the smooth step t^2 (3 - 2 t).
template <class F>
POLYFIELD_HD static inline F hash_grid_step(F t, bool smooth) {
  return smooth ? t * t * (3.f - 2.f * t) : t;
}
template <class F>
POLYFIELD_HD static inline F hash_grid_step_first(F t, bool smooth) {
  return smooth ? 6.f * t * (1.f - t) : t * 0.f + 1.f;
}
template <class F>
POLYFIELD_HD static inline F hash_grid_step_second(F t, bool smooth) {
  return smooth ? 6.f - 12.f * t : t * 0.f;
}

}  // namespace polyfield
