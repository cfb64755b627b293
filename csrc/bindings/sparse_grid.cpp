#include "kernels/sparse_grid.h"

#include <algorithm>
#include <vector>

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
        // A part has rows of its own, about as many as the others have where rows rise with the vertices, as they do.
        const int parts = thread_count();
        std::vector<int64_t> ends(parts + 1, 0);
        for (int part = 1; part < parts; ++part)
          ends[part] = std::clamp<int64_t>(grid.index[penalty.vertices[count * part / parts]], ends[part - 1], rows);
        ends[parts] = rows;
        parallel_tasks(parts, [&](int64_t part, int) {
          sparse_grid().variation(grid, penalty, ends[part], ends[part + 1], at<float>(values), at<uint8_t>(touched));
        });
      },
      unlocked());
}
