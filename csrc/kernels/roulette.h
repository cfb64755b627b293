// Choosing which samples to keep, by chances in steps of 2^-31.
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

// Kept with chance factor * (unit * |importance|), so far as floor and 1 allow. The unit is a power of two, so it
// changes no bit where it is 1 or not needed: the factor alone does not reach from the largest float to the smallest.
struct RouletteRate {
  float factor, unit;
};

struct RouletteKernels {
  // Adds up, over n items: the sizes of finite ones; and at this rate the expected number kept, and how fast that
  // grows with the factor. In units.
  void (*expect)(const float* importance, int64_t n, RouletteRate rate, float floor, double* sizes, double* expected,
                 double* slope);
  // Systematic sampling: item i is kept when a whole number, shifted by `offset` (in [0, 1), times 2^31), falls into
  // its stretch of the running sum of chances. Returns the number kept; indices and weights hold n.
  int64_t (*draw)(const float* importance, int64_t n, RouletteRate rate, float floor, uint32_t offset, int64_t* indices,
                  float* weights);
};

POLYFIELD_FAMILY(RouletteKernels, roulette)

}  // namespace polyfield
