// Radial bases: what a point's nearest kernels hold, weighed by how near it is to each (fields/ops/rbf.py).
#pragma once

#include <cstdint>

#include "dispatch.h"
#include "rbf_neighbours.h"

namespace polyfield {

enum class RbfKernel : int32_t { inverse_quadratic, inverse_multiquadric, gaussian, tent };

// Pairs of a point and a neighbour are sorted by the slice of rows that the neighbour lies in, piece by piece of the
// points: a slice can then be summed by one thread, in the order of the points.
constexpr int rbf_slices = 64, rbf_piece = 1024;

struct RbfJob {
  const float* x;            // [points, dim]
  const int32_t* ids;        // [points, neighbours], rows below; a negative first one marks a NaN point
  const float* centres;      // [rows, dim]
  const float* shapes;       // [rows, 1] of the tent, else [rows, dim (dim + 1) / 2]: the upper triangle, row by row
  const float* extent;       // [dim]
  const float* features;     // [rows, channels]
  const float* frequencies;  // [channels] or null
  int64_t rows;
  int32_t dim, channels, neighbours;
  RbfKernel kernel;
  bool normalise;
};

struct RbfKernels {
  // out [points, channels]. NaN points: NaN.
  void (*forward)(const RbfJob& job, float* out, int64_t begin, int64_t end);
  // The gradient to points: upstream [points, channels] -> out [points, dim]; 0 for NaN points.
  void (*points)(const RbfJob& job, const float* upstream, float* out, int64_t begin, int64_t end);
  // Sorts the pairs of at most rbf_piece points: pairs [points * neighbours] from the piece's own begin on, numbers
  // 16 * point + neighbour, by slice and then rising; starts [rbf_slices + 1]. Their weights: [points * neighbours],
  // neighbours of a point together. NaN points have no pairs.
  void (*sort)(const RbfJob& job, int64_t begin, int64_t end, float* weights, uint16_t* pairs, int32_t* starts);
  // Adds the gradient of one slice of rows from one sorted piece to values [rows, channels], and sets touched[line] = 1
  // for each 64-byte line of values (touched may be null).
  void (*scatter)(const RbfJob& job, int64_t begin, int slice, const float* weights, const uint16_t* pairs,
                  const int32_t* starts, const float* upstream, float* values, uint8_t* touched);
};

POLYFIELD_FAMILY(RbfKernels, rbf)

}  // namespace polyfield
