#include "kernels/modulate.h"

#include "bindings/module.h"
#include "parallel.h"

namespace polyfield {
namespace {

constexpr int64_t grain = 256;  // points

ModulateJob job(Address z, int64_t columns, Address scale, Address shift, int64_t stride, bool normalise) {
  return {at<const float>(z), columns, at<const float>(scale), at<const float>(shift), stride, normalise};
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(modulate) {
  m.def(
      "modulate_forward",
      [](Address z, int64_t columns, Address scale, Address shift, int64_t stride, bool normalise, int64_t points, Address y) {
        const ModulateJob rows = job(z, columns, scale, shift, stride, normalise);
        parallel_for(points, grain, [&](int64_t begin, int64_t end, int) { modulate().forward(rows, at<float>(y), begin, end); });
      },
      unlocked());
  m.def(
      "modulate_backward",
      [](Address z, int64_t columns, Address scale, Address shift, int64_t stride, bool normalise, int64_t points,
         Address upstream, Address to_z, Address to_scale, Address to_shift) {
        const ModulateJob rows = job(z, columns, scale, shift, stride, normalise);
        parallel_for(points, grain, [&](int64_t begin, int64_t end, int) {
          modulate().backward(rows, at<const float>(upstream), at<float>(to_z), at<float>(to_scale), at<float>(to_shift), begin,
                              end);
        });
      },
      unlocked());
}
