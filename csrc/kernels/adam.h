// Adam over one tensor: update, and clear the gradient, in one pass. See csrc/math/adam.h.
#pragma once

#include "dispatch.h"
#include "math/adam.h"

namespace polyfield {

// A line is 16 entries: 64 bytes of float32.
constexpr int64_t adam_line = 16;

struct AdamTensor {
  float *value, *gradient, *first, *second;  // [n]
  uint16_t* count;                           // [n] steps taken by each entry, staying at 65535
  uint8_t* touched;                          // [ceil(n / 16)]: lines whose gradient may not be 0; null: all
  int64_t n;
};

struct AdamKernels {
  // Lines [begin, end). An entry whose gradient is exactly 0 stays as it is in every respect; so does one whose
  // gradient or its square is not finite, and then the result is true. Gradients and `touched` are cleared.
  bool (*step)(const AdamTensor& tensor, const AdamSettings& settings, int64_t begin, int64_t end);
};

POLYFIELD_FAMILY(AdamKernels, adam)

}  // namespace polyfield
