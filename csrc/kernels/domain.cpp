#include "kernels/domain.h"

#include "simd.h"

namespace polyfield {
namespace POLYFIELD_ISA {

static void box(const float* positions, const float* low, const float* inverse, int64_t begin, int64_t end,
                float* unit, uint8_t* inside) {
  for (int64_t n = begin; n < end; ++n) {
    bool within = true;
    for (int d = 0; d < 3; ++d) {
      const float raw = (positions[3 * n + d] - low[d]) * inverse[d];
      const float kept = raw > 0.f ? (raw < 1.f ? raw : 1.f) : 0.f;  // NaN goes to 0, and counts as outside
      within = within && raw == kept;
      unit[3 * n + d] = kept;
    }
    inside[n] = within;
  }
}

static void contraction(const float* positions, const float* center, float inverse, int64_t begin, int64_t end,
                        float* unit) {
  for (int64_t n = begin; n < end; ++n) {
    float y[3], square = 0.f;
    for (int d = 0; d < 3; ++d) {
      y[d] = (positions[3 * n + d] - center[d]) * inverse;
      square += y[d] * y[d];
    }
    const float norm = square > 1.f ? __builtin_sqrtf(square) : 1.f;
    const float scale = (2.f - 1.f / norm) / norm * 0.25f;
    for (int d = 0; d < 3; ++d) unit[3 * n + d] = y[d] * scale + 0.5f;
  }
}

static void exp_density(const float* raw, int64_t stride, const uint8_t* inside, float gain, float limit,
                        int64_t begin, int64_t end, float* sigma) {
  for (int64_t n = begin; n < end; n += W) {
    const int count = end - n < W ? static_cast<int>(end - n) : W;
    float lane[W] = {};
    for (int i = 0; i < count; ++i) lane[i] = raw[(n + i) * stride];
    // min in this order passes a NaN on
    store(lane, exp(min(splat(limit), load(lane))) * splat(gain));
    for (int i = 0; i < count; ++i) sigma[n + i] = inside[n + i] ? lane[i] : 0.f;
  }
}

const DomainKernels domain = {box, contraction, exp_density};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
