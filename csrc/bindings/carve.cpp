#include "kernels/carve.h"

#include <vector>

#include "bindings/module.h"
#include "parallel.h"

namespace polyfield {
namespace {

// pose: [3, 4] float32 world_from_camera; lens: fx, fy, cx, cy; alpha: [height, width] with strides in floats.
void carve_view(Address pose_at, Address lens_at, Address alpha_at, int64_t height, int64_t width, int64_t row_stride,
                int64_t stride, Address low_at, Address half_at, int64_t levels, int64_t resolution, Address kept_at) {
  const float *pose = at<const float>(pose_at), *lens = at<const float>(lens_at), *alpha = at<const float>(alpha_at);
  static thread_local std::vector<int32_t> filled;
  filled.resize((height + 1) * (width + 1));
  std::fill(filled.begin(), filled.begin() + width + 1, 0);
  for (int64_t y = 0; y < height; ++y) {
    const int32_t* above = filled.data() + y * (width + 1);
    int32_t* here = filled.data() + (y + 1) * (width + 1);
    int32_t in_row = 0;
    here[0] = 0;
    for (int64_t x = 0; x < width; ++x) {
      in_row += !(alpha[y * row_stride + x * stride] <= 0.f);  // NaN: not known to be empty
      here[x + 1] = above[x + 1] + in_row;
    }
  }
  CarveView view = {};
  for (int a = 0; a < 3; ++a) {
    view.right[a] = pose[4 * a];
    view.down[a] = pose[4 * a + 1];
    view.forward[a] = pose[4 * a + 2];
    view.position[a] = pose[4 * a + 3];
  }
  view.focal[0] = lens[0];
  view.focal[1] = lens[1];
  view.center[0] = lens[2];
  view.center[1] = lens[3];
  view.width = width;
  view.height = height;
  view.filled = filled.data();
  const int64_t cells = resolution * resolution * resolution;
  for (int64_t level = 0; level < levels; ++level) {
    const float *low = at<const float>(low_at) + 3 * level, *half = at<const float>(half_at) + 3 * level;
    uint8_t* kept = at<uint8_t>(kept_at) + level * cells;
    // The kept cells lie in the middle: single slices, handed out as threads come free.
    parallel_tasks(resolution, [&](int64_t x, int) { carve().carve(view, low, half, resolution, x, x + 1, kept); });
  }
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(carve) { m.def("carve_view", &carve_view, unlocked()); }
