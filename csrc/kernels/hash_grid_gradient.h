// Hash grid: gradients to the points, first and second order.
#pragma once

#include "kernels/hash_grid.h"

namespace polyfield {

struct HashGridGradientKernels {
  // out[point][axis] = d <upstream, features> / d x, where job.along is null;
  // else the derivative of <along, that> by x. NaN points and clamped coordinates: 0.
  void (*points)(const HashGridJob& job, const float* table, HashGridUpstream upstream, float* out);
};

POLYFIELD_FAMILY(HashGridGradientKernels, hash_grid_gradient)

}  // namespace polyfield
