#include "kernels/pictures.h"

#include <atomic>

#include "bindings/module.h"
#include "parallel.h"

namespace polyfield {
namespace {

constexpr int64_t grain = 4096;

// Both return false where an index is out of range.
bool rays(Address rows, int64_t count, Address cameras, Address pixels, int64_t n, Address origins,
          Address directions) {
  std::atomic<bool> strange{false};
  parallel_for(n, grain, [&](int64_t begin, int64_t end, int) {
    if (!pictures().rays(at<const float>(rows), count, at<const int64_t>(cameras), at<const float>(pixels), begin, end,
                         at<float>(origins), at<float>(directions)))
      strange = true;
  });
  return !strange;
}

bool gather(Address bytes, int64_t pixels, int64_t channels, Address starts, Address widths, int64_t images,
            Address image, Address x, Address y, int64_t count, Address out) {
  const Pictures from = {at<const uint8_t>(bytes),   pixels, channels, at<const int64_t>(starts),
                         at<const int64_t>(widths), images};
  std::atomic<bool> strange{false};
  parallel_for(count, grain, [&](int64_t begin, int64_t end, int) {
    if (!pictures().gather(from, at<const int64_t>(image), at<const int64_t>(x), at<const int64_t>(y), begin, end,
                           at<float>(out)))
      strange = true;
  });
  return !strange;
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(pictures) {
  m.def("picture_rays", &rays, unlocked());
  m.def("picture_gather", &gather, unlocked());
}
