#include "kernels/spherical_harmonics.h"

#include <cmath>
#include <new>
#include <vector>

#include "bindings/module.h"
#include "parallel.h"

namespace polyfield {
namespace {

constexpr int64_t grain = 512;  // points: a tenth of a millisecond is worth a thread

// Start, rise and fall of every (m, l), in float64 before they are rounded once.
std::vector<float> recurrence(int degree) {
  std::vector<float> table(2 * static_cast<size_t>(degree) * degree);
  double start = std::sqrt(1 / (4 * 3.14159265358979323846));
  for (int m = 0; m < degree; ++m) {
    if (m > 0) start *= -std::sqrt((2.0 * m + 1) / (2.0 * m));
    float* row = table.data() + 2 * static_cast<size_t>(m) * degree;
    row[2 * m] = static_cast<float>(m > 0 ? start * std::sqrt(2.0) : start);
    for (double l = m + 1; l < degree; ++l) {
      const double rise = std::sqrt((4 * l * l - 1) / ((l - m) * (l + m)));
      row[2 * static_cast<int>(l)] = static_cast<float>(rise);
      row[2 * static_cast<int>(l) + 1] =
          static_cast<float>(rise * std::sqrt((l - 1 - m) * (l - 1 + m) / (4 * (l - 1) * (l - 1) - 1)));
    }
  }
  return table;
}

// One tile of vectors a thread, on lines of their own.
class Scratch {
 public:
  Scratch(int degree, int threads) : each_(static_cast<size_t>(degree) * degree * 16) {
    if (degree > sh_fixed_degrees)
      memory_ = static_cast<float*>(::operator new(each_ * threads * sizeof(float), std::align_val_t(64)));
  }
  ~Scratch() { ::operator delete(memory_, std::align_val_t(64)); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* of(int thread) const { return memory_ == nullptr ? nullptr : memory_ + each_ * thread; }

 private:
  size_t each_;
  float* memory_ = nullptr;
};

template <class Body>
void over_points(int64_t count, int degree, Body&& body) {
  std::vector<float> table;
  if (degree > sh_fixed_degrees) table = recurrence(degree);
  const Scratch scratch(degree, thread_count());
  parallel_for(count, grain, [&](int64_t begin, int64_t end, int thread) {
    body(begin, end, ShWork{table.data(), scratch.of(thread)});
  });
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(spherical_harmonics) {
  m.def(
      "spherical_harmonics_forward",
      [](Address directions, Address out, int64_t count, int degree) {
        over_points(count, degree, [&](int64_t begin, int64_t end, ShWork work) {
          spherical_harmonics().forward(at<const float>(directions), at<float>(out), begin, end, degree, work);
        });
      },
      unlocked());
  m.def(
      "spherical_harmonics_backward",
      [](Address directions, Address gradient, Address out, int64_t count, int degree) {
        over_points(count, degree, [&](int64_t begin, int64_t end, ShWork work) {
          spherical_harmonics().backward(at<const float>(directions), at<const float>(gradient), at<float>(out), begin, end,
                                         degree, work);
        });
      },
      unlocked());
}
