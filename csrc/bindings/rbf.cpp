#include "kernels/rbf.h"

#include <algorithm>
#include <string>

#include "bindings/module.h"
#include "parallel.h"
#include "rbf_scatter.h"

namespace polyfield {
namespace {

constexpr int64_t grain = 256;  // points

struct RbfTask {
  RbfJob job;
  int64_t points;
};

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(rbf) {
  py::class_<RbfTask>(m, "RbfTask")
      .def(py::init([](Address x, Address features, Address ids, Address centres, Address shapes, Address extent,
                       Address frequencies, int64_t rows, int dim, int channels, int neighbours, int kernel,
                       bool normalise, int64_t points) {
        int64_t highest = -1;
        for (int64_t i = 0; i < points * neighbours; ++i) highest = std::max<int64_t>(highest, at<const int32_t>(ids)[i]);
        if (highest >= rows)
          throw py::index_error("rbf: ids must be below " + std::to_string(rows) + ", the number of kernels, but reach " +
                                std::to_string(highest) + ".");
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
            rbf_scatter(task.job, task.points, at<const float>(upstream), at<float>(values), at<uint8_t>(touched));
          },
          unlocked());
}
