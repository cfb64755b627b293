// Hash grid: features of points, and the gradient to the table. Level-major: all points pass one level's table
// before the next level is touched. The gradients to points are in hash_grid_gradient.h.
#pragma once

#include "dispatch.h"
#include "math/hash_grid.h"

namespace polyfield {

struct HashGridJob {
  const HashGridLevel* levels;
  int level_count;     // levels above it are not there
  int dim;             // 2, 3, 4
  int features;        // 1, 2, 4, 8
  bool smooth;
  int64_t points;
  const float* x;      // [points, dim], clamped to [0, 1] here
  const float* along;  // null, or [points, dim]: corner weights become their derivative along it
};

// Where the upstream gradient of feature f of point n lies: data[f * feature_stride + n * point_stride].
struct HashGridUpstream {
  const float* data;
  int64_t feature_stride;
  int64_t point_stride;
};

struct HashGridKernels {
  // out[level * features + f][point] = sum over corners of weight * table entry. NaN points: NaN.
  void (*forward)(const HashGridJob& job, const float* table, float* out);
  // values[entry] += weight * upstream; touched[line] = 1 for each 64-byte line of values (touched may be null).
  // Every entry adds its points in order, whatever the threads do. NaN points add nothing.
  void (*scatter)(const HashGridJob& job, HashGridUpstream upstream, float* values, uint8_t* touched);
};

POLYFIELD_FAMILY(HashGridKernels, hash_grid)

}  // namespace polyfield
