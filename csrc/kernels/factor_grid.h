// Products of small grids. A factor is a grid over one to three of the axes, with vertices on the borders; a group of
// factors gives `channels` features, each the product of what its factors interpolate there. Lines and planes of TensoRF,
// K-planes and dense grids are all such (fields/ops/factor_grid.py).
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

constexpr int factor_grid_most_dim = 4, factor_grid_most_axes = 3, factor_grid_most_factors = 6;  // of a group

// As fields/ops/factor_layout.py packs it.
struct FactorGridFactor {
  int64_t row;    // of the table, at which its vertices begin; its first axis runs fastest
  int32_t group;  // groups rise by 0 or 1
  int32_t axes;   // 1..3
  int32_t axis[factor_grid_most_axes];
  int32_t side[factor_grid_most_axes];  // vertices along each axis, at least 2
};

struct FactorGridJob {
  const FactorGridFactor* factors;
  int factor_count, group_count, channels, dim;
  const float* x;      // [points, dim], clamped to [0, 1] here
  const float* table;  // [rows, channels]
};

struct FactorGridKernels {
  // out [points, groups * channels]. NaN points: NaN.
  void (*forward)(const FactorGridJob& job, float* out, int64_t begin, int64_t end);
  // The same of the gradient to points: upstream [points, groups * channels] -> out [points, dim]; 0 for NaN points and
  // along axes on which the point was clamped.
  void (*points)(const FactorGridJob& job, const float* upstream, float* out, int64_t begin, int64_t end);
  // Adds the gradient of one factor's rows to values [rows, channels], in the order of points, and sets
  // touched[line] = 1 for each 64-byte line of values (touched may be null). NaN points add nothing.
  void (*scatter)(const FactorGridJob& job, int factor, const float* upstream, int64_t points, float* values,
                  uint8_t* touched);
};

POLYFIELD_FAMILY(FactorGridKernels, factor_grid)

}  // namespace polyfield
