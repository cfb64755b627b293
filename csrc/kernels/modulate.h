// One layer's end in coordinate-aware modulation: rows of sums are normalised, scaled and shifted by two numbers of each
// row, and what is below 0 is cut off: max(0, scale[n] norm(z[n]) + shift[n]).
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

struct ModulateJob {
  const float* z;      // [points, columns]
  int64_t columns;
  const float* scale;  // of point n at n * stride
  const float* shift;  // of point n at n * stride
  int64_t stride;
  bool normalise;      // take off a row's mean, and divide by the root of its variance (plus modulate_epsilon)
};

constexpr float modulate_epsilon = 1e-5f;

struct ModulateKernels {
  // y [points, columns], points begin .. end.
  void (*forward)(const ModulateJob& job, float* y, int64_t begin, int64_t end);
  // upstream [points, columns] -> to_z [points, columns], to_scale [points] and to_shift [points].
  void (*backward)(const ModulateJob& job, const float* upstream, float* to_z, float* to_scale, float* to_shift,
                   int64_t begin, int64_t end);
};

POLYFIELD_FAMILY(ModulateKernels, modulate)

}  // namespace polyfield
