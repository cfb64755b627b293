// Whether a view shows that a cell of space is empty.
#pragma once

#include <cstdint>

#include "hd.h"

#if !defined(__CUDACC__)
#include <math.h>
#endif

namespace polyfield {

// A pinhole view of a silhouette. `filled` is a summed-area table [height + 1, width + 1]: how many pixels above and
// to the left of a corner are not empty.
struct CarveView {
  float right[3], down[3], forward[3], position[3];  // the camera's axes and place in the world
  float focal[2], center[2];
  int64_t width, height;
  const int32_t* filled;
};

// True when the box of half size `half` about p lies in front of the camera, wholly inside the picture, and on empty
// pixels only. The rectangle around its picture is exact in its width and height: at slope q = x / z of the middle, a
// corner lies (dx - q dz) / (z + dz) beside it.
POLYFIELD_HD static inline bool seen_empty(const CarveView& v, const float* p, const float* half) {
  float x = 0.f, y = 0.f, z = 0.f, reach = 0.f;
  for (int a = 0; a < 3; ++a) {
    const float d = p[a] - v.position[a];
    x += v.right[a] * d;
    y += v.down[a] * d;
    z += v.forward[a] * d;
    reach += fabsf(v.forward[a]) * half[a];
  }
  const float nearest = z - reach;
  if (!(nearest > 0.f)) return false;
  const float qx = x / z, qy = y / z;
  float wide = 0.f, high = 0.f;
  for (int a = 0; a < 3; ++a) {
    wide += fabsf(v.right[a] - qx * v.forward[a]) * half[a];
    high += fabsf(v.down[a] - qy * v.forward[a]) * half[a];
  }
  const float u = v.focal[0] * qx + v.center[0], du = v.focal[0] * wide / nearest;
  const float w = v.focal[1] * qy + v.center[1], dw = v.focal[1] * high / nearest;
  if (!(u - du >= 0.f && u + du < (float)v.width && w - dw >= 0.f && w + dw < (float)v.height)) return false;
  const int64_t left = (int64_t)(u - du), right = (int64_t)(u + du) + 1;
  const int64_t top = (int64_t)(w - dw), bottom = (int64_t)(w + dw) + 1;
  const int32_t *above = v.filled + top * (v.width + 1), *below = v.filled + bottom * (v.width + 1);
  return below[right] - below[left] - above[right] + above[left] == 0;
}

}  // namespace polyfield
