// Choosing which samples to keep, by chances in steps of 2^-31.
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

struct RouletteKernels {
  // Adds up, over n items: the sizes of finite ones; and at this rate the expected number kept, and how fast that
  // grows with the rate.
  void (*expect)(const float* importance, int64_t n, float rate, float floor, double* sizes, double* expected,
                 double* slope);
  // Systematic sampling: item i is kept when a whole number, shifted by `offset` (in [0, 1), times 2^31), falls into
  // its stretch of the running sum of chances. Returns the number kept; indices and weights hold n.
  int64_t (*draw)(const float* importance, int64_t n, float rate, float floor, uint32_t offset, int64_t* indices,
                  float* weights);
};

POLYFIELD_FAMILY(RouletteKernels, roulette)

}  // namespace polyfield
