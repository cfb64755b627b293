#include "kernels/pictures.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

bool rays(const float* rows, int64_t count, const int64_t* cameras, const float* pixels, int64_t begin, int64_t end,
          float* origins, float* directions) {
  for (int64_t n = begin; n < end; ++n) {
    if (cameras[n] < 0 || cameras[n] >= count) return false;
    const float* row = rows + 12 * cameras[n];
    float d[3], square = 0.f;
    for (int a = 0; a < 3; ++a) {
      d[a] = row[6 + a] + row[a] * pixels[2 * n] + row[3 + a] * pixels[2 * n + 1];
      square += d[a] * d[a];
    }
    const float scale = 1.f / __builtin_sqrtf(square);
    for (int a = 0; a < 3; ++a) {
      directions[3 * n + a] = d[a] * scale;
      origins[3 * n + a] = row[9 + a];
    }
  }
  return true;
}

bool gather(const Pictures& pictures, const int64_t* images, const int64_t* x, const int64_t* y, int64_t begin,
            int64_t end, float* out) {
  constexpr int64_t some = 64;  // pixels asked for before they are used: each lies anywhere in memory
  int64_t place[some];
  const float unit = 1.f / 255.f;
  for (int64_t from = begin; from < end; from += some) {
    const int64_t count = end - from < some ? end - from : some;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t n = from + i, image = images[n];
      if (image < 0 || image >= pictures.count) return false;
      const int64_t pixel = pictures.starts[image] + y[n] * pictures.widths[image] + x[n];
      if (pixel < 0 || pixel >= pictures.pixels) return false;
      place[i] = pixel * pictures.channels;
      __builtin_prefetch(pictures.bytes + place[i]);
    }
    for (int64_t i = 0; i < count; ++i) {
      const uint8_t* from_bytes = pictures.bytes + place[i];
      float* to = out + 4 * (from + i);
      const bool opaque = pictures.channels == 3;
      to[3] = opaque ? 1.f : (float)from_bytes[3] * unit;
      for (int c = 0; c < 3; ++c) to[c] = opaque ? (float)from_bytes[c] * unit : (float)from_bytes[c] * unit * to[3];
    }
  }
  return true;
}

}  // namespace

extern const PictureKernels pictures = {rays, gather};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
