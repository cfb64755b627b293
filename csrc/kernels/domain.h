// From world positions to the unit cube. See fields/domain.py.
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

struct DomainKernels {
  // unit = clamp((position - low) * inverse, 0, 1), inside = whether nothing was clamped; points [begin, end).
  void (*box)(const float* positions, const float* low, const float* inverse, int64_t begin, int64_t end, float* unit,
              uint8_t* inside);
  // y = (position - center) * inverse; unit = y / 4 + 1/2, with y drawn in to (2 - 1/|y|) y/|y| outside the ball.
  void (*contraction)(const float* positions, const float* center, float inverse, int64_t begin, int64_t end,
                      float* unit);
  // sigma[n] = gain * exp(min(raw[n * stride], limit)), 0 where inside[n] is 0.
  void (*exp_density)(const float* raw, int64_t stride, const uint8_t* inside, float gain, float limit, int64_t begin,
                      int64_t end, float* sigma);
};

POLYFIELD_FAMILY(DomainKernels, domain)

}  // namespace polyfield
