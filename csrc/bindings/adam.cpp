#include "kernels/adam.h"

#include <atomic>

#include "bindings/module.h"
#include "parallel.h"

namespace polyfield {
namespace {

// Returns whether a gradient was not finite.
bool step(Address value, Address gradient, Address first, Address second, Address count, Address touched, int64_t n,
          const py::tuple& numbers, Address first_corrections, Address second_corrections, int32_t corrections) {
  const AdamTensor tensor = {at<float>(value),  at<float>(gradient),  at<float>(first), at<float>(second),
                             at<uint16_t>(count), at<uint8_t>(touched), n};
  const AdamSettings settings = {numbers[0].cast<float>(),
                                 numbers[1].cast<float>(),
                                 numbers[2].cast<float>(),
                                 numbers[3].cast<float>(),
                                 numbers[4].cast<float>(),
                                 numbers[5].cast<float>(),
                                 at<const float>(first_corrections),
                                 at<const float>(second_corrections),
                                 corrections};
  const py::gil_scoped_release let_others_run;
  std::atomic<bool> unusable{false};
  parallel_for((n + adam_line - 1) / adam_line, 1024, [&](int64_t begin, int64_t end, int) {
    if (adam().step(tensor, settings, begin, end)) unusable = true;
  });
  return unusable;
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(adam) { m.def("adam_step", &step); }
