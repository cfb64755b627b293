#include "kernels/hash_grid_gradient.h"

#include "bindings/hash_grid.h"

POLYFIELD_BINDINGS(hash_grid_gradient) {
  m.def(
      "hash_grid_points_gradient",
      [](Address levels, int level_count, int dim, int features, bool smooth, int64_t points, Address x, Address along,
         Address table, Address upstream, int64_t feature_stride, int64_t point_stride, Address out) {
        const HashGridJob job = hash_grid_job(levels, level_count, dim, features, smooth, points, x, along);
        hash_grid_gradient().points(job, at<const float>(table), {at<const float>(upstream), feature_stride, point_stride},
                                    at<float>(out));
      },
      unlocked());
}
