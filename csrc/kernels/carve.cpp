#include "kernels/carve.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

void carve_cells(const CarveView& view, const float* low, const float* half, int64_t resolution, int64_t begin,
                 int64_t end, uint8_t* kept) {
  const int64_t n = resolution;
  for (int64_t x = begin; x < end; ++x)
    for (int64_t y = 0; y < n; ++y) {
      uint8_t* row = kept + (x * n + y) * n;
      float p[3] = {low[0] + (float)(2 * x + 1) * half[0], low[1] + (float)(2 * y + 1) * half[1], 0.f};
      for (int64_t z = 0; z < n; ++z) {
        if (!row[z]) continue;
        p[2] = low[2] + (float)(2 * z + 1) * half[2];
        if (seen_empty(view, p, half)) row[z] = 0;
      }
    }
}

}  // namespace

extern const CarveKernels carve = {carve_cells};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
