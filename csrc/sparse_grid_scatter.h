// The gradient of a sparse grid's table, from all points.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/sparse_grid.h"
#include "parallel.h"

namespace polyfield {

// Adds to values [rows, channels]; x [points, 3], upstream [points, channels]; touched as in SparseGridKernels.
inline void sparse_grid_scatter(const SparseGridJob& grid, const float* x, int64_t points, const float* upstream,
                                float* values, uint8_t* touched) {
  // The layers of the lattice are cut so that each part has about as many points. Whose part a vertex is decides only
  // who adds its gradients, not in which order.
  const int parts = thread_count();
  const int32_t side = grid.side;
  std::vector<int64_t> below(side + 1, 0);
  for (int64_t p = 0; p < points; ++p) {
    const float z = x[3 * p + 2];
    ++below[z > 0.f ? std::min(static_cast<int32_t>(std::min(z, 1.f) * (side - 1)), side - 1) + 1 : 1];
  }
  for (int32_t k = 0; k < side; ++k) below[k + 1] += below[k];
  std::vector<int32_t> cuts(parts + 1, side);
  for (int part = 0; part < parts; ++part) {
    const int64_t wanted = points * part / parts;
    cuts[part] = static_cast<int32_t>(std::lower_bound(below.begin(), below.end(), wanted) - below.begin());
  }
  cuts[0] = 0;
  parallel_tasks(parts, [&](int64_t part, int) {
    sparse_grid().scatter(grid, x, upstream, points, cuts[part], cuts[part + 1], values, touched);
  });
}

}  // namespace polyfield
