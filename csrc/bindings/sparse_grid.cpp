#include "kernels/sparse_grid.h"

#include <algorithm>

#include "bindings/module.h"
#include "parallel.h"
#include "sparse_grid_scatter.h"

namespace polyfield {
namespace {

constexpr int64_t grain = 256;  // points

SparseGridJob job(int side, int rows, int channels, Address index, Address table) {
  return {side, rows, channels, at<const int32_t>(index), at<const float>(table)};
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
        sparse_grid_scatter(grid, at<const float>(x), points, at<const float>(upstream), at<float>(values),
                            at<uint8_t>(touched));
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
