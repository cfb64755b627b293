// A lattice of side^3 vertices, of which only some are kept, with linear interpolation between them; the others count as
// 0. The first axis runs fastest; the outermost vertices lie on the borders of [0, 1] (fields/ops/sparse_grid.py).
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

constexpr int sparse_grid_most_side = 1024, sparse_grid_most_channels = 1024;

struct SparseGridJob {
  int32_t side, rows, channels;
  const int32_t* index;  // [side^3]: row of each vertex; what is not in 0..rows - 1: none
  const float* table;    // [rows, channels]
};

// What a penalty on differences between neighbours takes: see fields/ops/total_variation.py.
struct SparseGridVariation {
  const int32_t* vertices;  // [count]: places in the lattice
  int64_t count;
  const float* weights;  // [channels]
  float scale, eps;      // of differences; below the root
};

struct SparseGridKernels {
  // x [points, 3], clamped to [0, 1] here -> out [points, channels]. NaN points: NaN.
  void (*forward)(const SparseGridJob& job, const float* x, float* out, int64_t begin, int64_t end);
  // The same of the gradient to points: upstream [points, channels] -> out [points, 3]; 0 for NaN points and along axes
  // on which the point was clamped.
  void (*points)(const SparseGridJob& job, const float* x, const float* upstream, float* out, int64_t begin, int64_t end);
  // Adds the gradient of the vertices in layers [first, last) of the third axis to values [rows, channels], in the order
  // of points, and sets touched[line] = 1 for each 64-byte line of values (touched may be null). NaN points add nothing.
  void (*scatter)(const SparseGridJob& job, const float* x, const float* upstream, int64_t points, int32_t first,
                  int32_t last, float* values, uint8_t* touched);
  // Adds the gradient of the penalty to rows [first, last) of values, in the order of its vertices.
  void (*variation)(const SparseGridJob& job, const SparseGridVariation& penalty, int64_t first, int64_t last,
                    float* values, uint8_t* touched);
};

POLYFIELD_FAMILY(SparseGridKernels, sparse_grid)

}  // namespace polyfield
