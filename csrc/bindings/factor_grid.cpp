#include "kernels/factor_grid.h"

#include "bindings/module.h"
#include "parallel.h"

namespace polyfield {
namespace {

constexpr int64_t grain = 256;  // points

FactorGridJob job(Address factors, int factor_count, int group_count, int channels, int dim, Address x, Address table) {
  return {at<const FactorGridFactor>(factors), factor_count, group_count, channels, dim, at<const float>(x),
          at<const float>(table)};
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(factor_grid) {
  m.def(
      "factor_grid_forward",
      [](Address factors, int factor_count, int group_count, int channels, int dim, Address x, Address table,
         int64_t points, Address out) {
        const FactorGridJob grids = job(factors, factor_count, group_count, channels, dim, x, table);
        parallel_for(points, grain, [&](int64_t begin, int64_t end, int) {
          factor_grid().forward(grids, at<float>(out), begin, end);
        });
      },
      unlocked());
  m.def(
      "factor_grid_points_gradient",
      [](Address factors, int factor_count, int group_count, int channels, int dim, Address x, Address table,
         int64_t points, Address upstream, Address out) {
        const FactorGridJob grids = job(factors, factor_count, group_count, channels, dim, x, table);
        parallel_for(points, grain, [&](int64_t begin, int64_t end, int) {
          factor_grid().points(grids, at<const float>(upstream), at<float>(out), begin, end);
        });
      },
      unlocked());
  m.def(
      "factor_grid_scatter",
      [](Address factors, int factor_count, int group_count, int channels, int dim, Address x, Address table,
         int64_t points, Address upstream, Address values, Address touched) {
        const FactorGridJob grids = job(factors, factor_count, group_count, channels, dim, x, table);
        // A factor is one task: its sums do not depend on who does them.
        parallel_tasks(factor_count, [&](int64_t factor, int) {
          factor_grid().scatter(grids, static_cast<int>(factor), at<const float>(upstream), points, at<float>(values),
                                at<uint8_t>(touched));
        });
      },
      unlocked());
}
