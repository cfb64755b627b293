// Adam for one entry. See: Kingma and Ba (2015), "Adam: a method for stochastic optimization", algorithm 1.
#pragma once

#include <cstdint>

#include "hd.h"

#if !defined(__CUDACC__)
#include <math.h>
#endif

namespace polyfield {

struct AdamSettings {
  float rate, beta1, beta2, eps, decay;  // decay: L2, added to the gradient
  float scale;                           // multiplies the gradient first
  // Bias corrections by count - 1, up to the first count at which both are 1 in float32:
  // first[i] = 1 / (1 - beta1^(i + 1)), second[i] = 1 / sqrt(1 - beta2^(i + 1)).
  const float *first, *second;
  int32_t corrections;  // >= 1
};

// The new value, given bias corrections for the new count. The moments are updated in place.
POLYFIELD_HD static inline float adam_entry(const AdamSettings& s, float value, float gradient, float first, float second, float* m,
                              float* v) {
  const float g = gradient * s.scale + s.decay * value;
  *m = *m + (1.f - s.beta1) * (g - *m);
  *v = s.beta2 * *v + (1.f - s.beta2) * (g * g);
  return value - (s.rate * first) * *m / (sqrtf(*v) * second + s.eps);
}

}  // namespace polyfield
