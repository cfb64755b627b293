// The gradient of what radial bases hold, from all points.
#pragma once

#include <algorithm>
#include <memory>

#include "kernels/rbf.h"
#include "parallel.h"

namespace polyfield {

// Adds to values [rows, channels]; upstream [points, channels]; touched as in RbfKernels.
inline void rbf_scatter(const RbfJob& job, int64_t points, const float* upstream, float* values, uint8_t* touched) {
  constexpr int64_t pieces = 16;  // sorted at once: their upstream gradients should stay in the cache
  const int64_t stride = rbf_piece * job.neighbours, most = std::min(pieces, (points + rbf_piece - 1) / rbf_piece);
  const std::unique_ptr<float[]> weights(new float[most * stride]);
  const std::unique_ptr<uint16_t[]> pairs(new uint16_t[most * stride]);
  const std::unique_ptr<int32_t[]> starts(new int32_t[most * (rbf_slices + 1)]);
  for (int64_t first = 0; first < points; first += pieces * rbf_piece) {
    const int64_t count = std::min(pieces, (points - first + rbf_piece - 1) / rbf_piece);
    parallel_tasks(count, [&](int64_t i, int) {
      const int64_t begin = first + i * rbf_piece, end = std::min(points, begin + rbf_piece);
      rbf().sort(job, begin, end, &weights[i * stride], &pairs[i * stride], &starts[i * (rbf_slices + 1)]);
    });
    // A slice is one task: its sums do not depend on who does them.
    parallel_tasks(rbf_slices, [&](int64_t slice, int) {
      for (int64_t i = 0; i < count; ++i)
        rbf().scatter(job, first + i * rbf_piece, static_cast<int>(slice), &weights[i * stride], &pairs[i * stride],
                      &starts[i * (rbf_slices + 1)], upstream, values, touched);
    });
  }
}

}  // namespace polyfield
