#include "kernels/sparse_grid.h"

#include <algorithm>
#include <vector>

#include "bindings/module.h"
#include "parallel.h"

namespace polyfield {
namespace {

constexpr int64_t grain = 256;  // points

SparseGridJob job(int side, int rows, int channels, Address index, Address table) {
  return {side, rows, channels, at<const int32_t>(index), at<const float>(table)};
}

// Cuts the layers of the lattice so that each part has about as many points. Whose part a vertex is decides only who
// adds its gradients, not in which order.
std::vector<int32_t> cut(int32_t side, const float* x, int64_t points, int parts) {
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
  return cuts;
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(sparse_grid) {
  m.def(
      "sparse_grid_forward",
      [](int side, int rows, int channels, Address index, Address table, Address x, int64_t points, Address out) {
        const SparseGridJob grid = job(side, rows, channels, index, table);
        parallel_for(points, grain, [&](int64_t begin, int64_t end, int) {
          sparse_grid().forward(grid, at<const float>(x), at<float>(out), begin, end);
        });
      },
      unlocked());
  m.def(
      "sparse_grid_points_gradient",
      [](int side, int rows, int channels, Address index, Address table, Address x, int64_t points, Address upstream,
         Address out) {
        const SparseGridJob grid = job(side, rows, channels, index, table);
        parallel_for(points, grain, [&](int64_t begin, int64_t end, int) {
          sparse_grid().points(grid, at<const float>(x), at<const float>(upstream), at<float>(out), begin, end);
        });
      },
      unlocked());
  m.def(
      "sparse_grid_scatter",
      [](int side, int rows, int channels, Address index, Address table, Address x, int64_t points, Address upstream,
         Address values, Address touched) {
        const SparseGridJob grid = job(side, rows, channels, index, table);
        const int parts = thread_count();
        const std::vector<int32_t> cuts = cut(side, at<const float>(x), points, parts);
        parallel_tasks(parts, [&](int64_t part, int) {
          sparse_grid().scatter(grid, at<const float>(x), at<const float>(upstream), points, cuts[part], cuts[part + 1],
                                at<float>(values), at<uint8_t>(touched));
        });
      },
      unlocked());
  m.def(
      "sparse_grid_variation",
      [](int side, int rows, int channels, Address index, Address table, Address vertices, int64_t count,
         Address weights, float scale, float eps, Address values, Address touched) {
        const SparseGridJob grid = job(side, rows, channels, index, table);
        const SparseGridVariation penalty = {at<const int32_t>(vertices), count, at<const float>(weights), scale, eps};
        // A part has rows of its own; the rows of neighbours lie near those of the vertices.
        const int parts = thread_count();
        const auto row_of = [&](int64_t n) -> int64_t { return std::max(grid.index[penalty.vertices[n]], 0); };
        parallel_tasks(parts, [&](int64_t part, int) {
          const int64_t first = part == 0 ? 0 : row_of(count * part / parts);
          const int64_t last = part + 1 == parts ? rows : row_of(count * (part + 1) / parts);
          sparse_grid().variation(grid, penalty, first, last, at<float>(values), at<uint8_t>(touched));
        });
      },
      unlocked());
}
