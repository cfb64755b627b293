#include "kernels/rbf.h"

#include <algorithm>
#include <memory>

#include "bindings/module.h"
#include "parallel.h"

namespace polyfield {
namespace {

constexpr int64_t grain = 256;     // points
constexpr int64_t pieces = 16;     // sorted at once: their upstream gradients should stay in the cache

struct RbfTask {
  RbfJob job;
  int64_t points;
};

void scatter(const RbfTask& task, const float* upstream, float* values, uint8_t* touched) {
  const RbfJob& job = task.job;
  const int64_t stride = rbf_piece * job.neighbours, most = std::min(pieces, (task.points + rbf_piece - 1) / rbf_piece);
  const std::unique_ptr<float[]> weights(new float[most * stride]);
  const std::unique_ptr<uint16_t[]> pairs(new uint16_t[most * stride]);
  const std::unique_ptr<int32_t[]> starts(new int32_t[most * (rbf_slices + 1)]);
  for (int64_t first = 0; first < task.points; first += pieces * rbf_piece) {
    const int64_t count = std::min(pieces, (task.points - first + rbf_piece - 1) / rbf_piece);
    parallel_tasks(count, [&](int64_t i, int) {
      const int64_t begin = first + i * rbf_piece, end = std::min(task.points, begin + rbf_piece);
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

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(rbf) {
  py::class_<RbfTask>(m, "RbfTask")
      .def(py::init([](Address x, Address features, Address ids, Address centres, Address shapes, Address extent,
                       Address frequencies, int64_t rows, int dim, int channels, int neighbours, int kernel,
                       bool normalise, int64_t points) {
        return RbfTask{{at<const float>(x), at<const int32_t>(ids), at<const float>(centres), at<const float>(shapes),
                        at<const float>(extent), at<const float>(features), at<const float>(frequencies), rows, dim,
                        channels, neighbours, static_cast<RbfKernel>(kernel), normalise},
                       points};
      }))
      .def(
          "forward",
          [](const RbfTask& task, Address out) {
            parallel_for(task.points, grain, [&](int64_t begin, int64_t end, int) {
              rbf().forward(task.job, at<float>(out), begin, end);
            });
          },
          unlocked())
      .def(
          "points_gradient",
          [](const RbfTask& task, Address upstream, Address out) {
            parallel_for(task.points, grain, [&](int64_t begin, int64_t end, int) {
              rbf().points(task.job, at<const float>(upstream), at<float>(out), begin, end);
            });
          },
          unlocked())
      .def(
          "scatter",
          [](const RbfTask& task, Address upstream, Address values, Address touched) {
            scatter(task, at<const float>(upstream), at<float>(values), at<uint8_t>(touched));
          },
          unlocked());
}
