#include "kernels/adam.h"

#include <algorithm>
#include <atomic>

#include "bindings/module.h"
#include "parallel.h"

namespace polyfield {
namespace {

constexpr int64_t task_lines = 4096;

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
  // Tasks and not halves: coarse levels of a grid are touched everywhere, fine ones here and there.
  const int64_t lines = (n + adam_line - 1) / adam_line;
  parallel_tasks((lines + task_lines - 1) / task_lines, [&](int64_t task, int) {
    const int64_t begin = task * task_lines, end = std::min(lines, begin + task_lines);
    if (adam().step(tensor, settings, begin, end)) unusable = true;
  });
  return unusable;
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(adam) { m.def("adam_step", &step); }
