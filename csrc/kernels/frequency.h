// Frequency encoding: sin(2^k pi x), cos(2^k pi x) for k = 0 .. octaves - 1, rows in and rows out.
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

struct FrequencyShape {
  int dim, octaves;
  bool include_input;

  int width() const { return dim * (2 * octaves + (include_input ? 1 : 0)); }
};

struct FrequencyKernels {
  // x [N, dim] -> out [N, width]: x itself when included, then for each octave the sines of all coordinates and the cosines.
  // scratch: of this thread, (width + dim) * 16 floats aligned to 64 bytes.
  void (*forward)(const float* x, float* out, int64_t begin, int64_t end, FrequencyShape shape, float* scratch);
  // gradient [N, width] -> out [N, dim].
  void (*backward)(const float* x, const float* gradient, float* out, int64_t begin, int64_t end, FrequencyShape shape,
                   float* scratch);
};

POLYFIELD_FAMILY(FrequencyKernels, frequency)

}  // namespace polyfield
