// Volume rendering of one sample: what it absorbs, and how the loss depends on that.
//
// With optical depth tau = sigma * (t1 - t0) and transmittance T in front of it, a sample weighs T (1 - e^-tau) and
// leaves T e^-tau. The background is the last sample: it weighs what is left.
// See: Max (1995), "Optical models for direct volume rendering".
#pragma once

#include <cstdint>

#include "hd.h"

namespace polyfield {

// An empty interval absorbs nothing, even at infinite density.
POLYFIELD_HD static inline float optical_depth(float sigma, float t0, float t1) {
  const float length = t1 - t0;
  return length > 0.f ? sigma * length : 0.f;
}

// dL/dtau of a sample. `behind` is the transmittance behind it, `worth` = dL/dweight of it, `rest` the sum over all
// that lies behind it, background included, of weight times worth.
POLYFIELD_HD static inline float depth_gradient(float behind, float worth, float rest) { return behind * worth - rest; }

}  // namespace polyfield
