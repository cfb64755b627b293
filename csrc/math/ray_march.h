// Where the samples of a ray lie, and which cell of an occupancy grid a point falls into.
//
// A ray's lattice: sample k (0, 1, ...) sits at time_at(k + jitter) and stands for the interval from
// time_at(k + jitter - 1/2) to time_at(k + jitter + 1/2). Times depend on k alone, never on how the marcher got
// there, so that skipping empty space changes no sample.
#pragma once

#include <cstdint>

#include "hd.h"

#if !defined(__CUDACC__)
#include <math.h>
#endif

namespace polyfield {

// Steps grow with distance: clamp(t * cone, step, largest). `grow` and `flat` are the times where the growth begins
// and ends, `u_grow` and `u_flat` how many steps lie between t = 0 and there. cone == 0: all steps equal `step`.
struct MarchStep {
  float step, cone, largest;
  float grow, flat, u_grow, u_flat;
};

// Level l covers the box of half size 2^l * half about `center`, by resolution^3 cells.
struct MarchGrid {
  float center[3], inverse_half[3];
  int32_t levels, resolution;
  const uint8_t* distance;  // [levels, x, y, z]: 0 occupied, else all cells nearer than this (Chebyshev) are empty
};

struct RaySpan {
  float enter, leave;  // enter < leave, or nothing to march
};

// How many steps lie between t = 0 and t (only differences are meant).
POLYFIELD_HD static inline float steps_until(const MarchStep& s, float t) {
  if (t < s.grow) return t / s.step;
  if (t < s.flat) return s.u_grow + logf(t / s.grow) / s.cone;
  return s.u_flat + (t - s.flat) / s.largest;
}

// The inverse. `first` = steps_until(enter).
POLYFIELD_HD static inline float time_at(const MarchStep& s, float enter, float first, float k) {
  if (s.cone == 0.f) return enter + k * s.step;
  const float u = first + k;
  if (u < s.u_grow) return u * s.step;
  if (u < s.u_flat) return s.grow * expf((u - s.u_grow) * s.cone);
  return s.flat + (u - s.u_flat) * s.largest;
}

// The part of [near, far] inside the outermost box. NaN or infinity anywhere, a zero direction or a miss: nothing.
POLYFIELD_HD static inline RaySpan span_of(const MarchGrid& g, const float* o, const float* d, float near, float far) {
  RaySpan none = {0.f, 0.f};
  const float outer = (float)(1 << (g.levels - 1));
  float enter = near, leave = far;
  bool moves = false;
  for (int a = 0; a < 3; ++a) {
    const float q = (o[a] - g.center[a]) * g.inverse_half[a], v = d[a] * g.inverse_half[a];
    if (!(q - q == 0.f) || !(v - v == 0.f)) return none;
    if (v == 0.f) {
      if (q < -outer || q > outer) return none;
      continue;
    }
    moves = true;
    const float t_low = (-outer - q) / v, t_high = (outer - q) / v;
    const float first = t_low < t_high ? t_low : t_high, last = t_low < t_high ? t_high : t_low;
    if (first > enter) enter = first;
    if (last < leave) leave = last;
  }
  if (!moves || !(enter < leave) || !(near - near == 0.f)) return none;
  RaySpan span = {enter, leave};
  return span;
}

// A cell, and where in the level's grid (in cells) the point lies.
struct MarchCell {
  int32_t level, index[3];
  float scale;    // cells of this level per unit of the box-normalised coordinate
  float place[3];
};

// The cell of the finest level whose box holds p; points outside count to the outermost cells.
//
// The only rounded product is the first; the others are by powers of two. So contraction to fused multiply-adds
// cannot change the answer, and every caller finds the same cell.
POLYFIELD_HD static inline MarchCell cell_at(const MarchGrid& g, const float* p) {
  MarchCell c;
  float q[3], size = 0.f;
  for (int a = 0; a < 3; ++a) {
    q[a] = (p[a] - g.center[a]) * g.inverse_half[a];
    const float m = fabsf(q[a]);
    size = m > size ? m : size;
  }
  float bound = 1.f;
  c.level = 0;
  while (c.level < g.levels - 1 && size > bound) {
    bound *= 2.f;
    ++c.level;
  }
  const float middle = 0.5f * (float)g.resolution;
  c.scale = middle / bound;
  for (int a = 0; a < 3; ++a) {
    c.place[a] = q[a] * c.scale + middle;
    const float last = (float)(g.resolution - 1);
    float low = c.place[a] > 0.f ? c.place[a] : 0.f;
    low = low < last ? low : last;
    c.index[a] = (int32_t)low;
  }
  return c;
}

POLYFIELD_HD static inline int64_t flat_index(const MarchGrid& g, const MarchCell& c) {
  const int64_t n = g.resolution;
  return ((c.level * n + c.index[0]) * n + c.index[1]) * n + c.index[2];
}

// When the ray, now at time t in cell c, leaves the cube of cells nearer than `distance` (>= 1) to c.
// `pace` is the velocity in box-normalised coordinates, `slowness` its inverse (or 1e30 where it is 0).
POLYFIELD_HD static inline float leaves_empty(const MarchGrid& g, const MarchCell& c, const float* pace, const float* slowness,
                                int32_t distance, float t) {
  float wait = 3e38f;
  for (int a = 0; a < 3; ++a) {
    int32_t edge = pace[a] < 0.f ? c.index[a] - distance + 1 : c.index[a] + distance;
    edge = edge < 0 ? 0 : edge;
    edge = edge > g.resolution ? g.resolution : edge;
    const float w = ((float)edge - c.place[a]) * slowness[a] / c.scale;
    wait = w < wait ? w : wait;
  }
  return t + wait;
}

}  // namespace polyfield
