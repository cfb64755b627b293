#include "kernels/frequency.h"

#include <new>

#include "bindings/module.h"
#include "parallel.h"

namespace polyfield {
namespace {

constexpr int64_t grain = 256;  // points

class Scratch {
 public:
  Scratch(FrequencyShape shape, int threads) : each_((static_cast<size_t>(shape.width()) + shape.dim) * 16) {
    memory_ = static_cast<float*>(::operator new(each_ * threads * sizeof(float), std::align_val_t(64)));
  }
  ~Scratch() { ::operator delete(memory_, std::align_val_t(64)); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* of(int thread) const { return memory_ + each_ * thread; }

 private:
  size_t each_;
  float* memory_;
};

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(frequency) {
  m.def(
      "frequency_forward",
      [](Address x, Address out, int64_t count, int dim, int octaves, bool include_input) {
        const FrequencyShape shape{dim, octaves, include_input};
        const Scratch scratch(shape, thread_count());
        parallel_for(count, grain, [&](int64_t begin, int64_t end, int thread) {
          frequency().forward(at<const float>(x), at<float>(out), begin, end, shape, scratch.of(thread));
        });
      },
      unlocked());
  m.def(
      "frequency_backward",
      [](Address x, Address gradient, Address out, int64_t count, int dim, int octaves, bool include_input) {
        const FrequencyShape shape{dim, octaves, include_input};
        const Scratch scratch(shape, thread_count());
        parallel_for(count, grain, [&](int64_t begin, int64_t end, int thread) {
          frequency().backward(at<const float>(x), at<const float>(gradient), at<float>(out), begin, end, shape,
                               scratch.of(thread));
        });
      },
      unlocked());
}
