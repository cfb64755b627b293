// The job of a hash grid, as Python passes it.
#pragma once

#include <stdexcept>

#include "bindings/module.h"
#include "kernels/hash_grid.h"

namespace polyfield {

// `along` may be 0. Throws where some point would lead out of its level's entries: a table is never overrun.
inline HashGridJob hash_grid_job(Address levels, int level_count, int dim, int features, bool smooth, int64_t points,
                                 Address x, Address along) {
  const HashGridJob job = {at<const HashGridLevel>(levels), level_count,        dim, features, smooth, points,
                           at<const float>(x),              at<const float>(along)};
  for (int l = 0; l < level_count; ++l)
    if (!hash_grid_stays_inside(job.levels[l], dim))
      throw std::invalid_argument("hash grid: the rule of a level leads out of its entries");
  return job;
}

}  // namespace polyfield
