// Rays through pixels of pinhole cameras, and the colours of these pixels: what a batch of training rays is made of.
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

// Images one behind the other: pixel (x, y) of image i lies at bytes[(starts[i] + y * widths[i] + x) * channels].
struct Pictures {
  const uint8_t* bytes;
  int64_t pixels;    // in all
  int64_t channels;  // 3: opaque; 4: the last is alpha
  const int64_t *starts, *widths;
  int64_t count;
};

struct PictureKernels {
  // Each of the C cameras has a row of 12: what a step right and a step down add to the direction, the direction at the
  // image's corner, the position. directions[n] has length 1. False where there is no such camera.
  bool (*rays)(const float* rows, int64_t count, const int64_t* cameras, const float* pixels, int64_t begin,
               int64_t end, float* origins, float* directions);
  // out[n] = red, green and blue, each times alpha, and alpha. False where there is no such pixel.
  bool (*gather)(const Pictures& pictures, const int64_t* images, const int64_t* x, const int64_t* y, int64_t begin,
                 int64_t end, float* out);
};

POLYFIELD_FAMILY(PictureKernels, pictures)

}  // namespace polyfield
