// Spherical harmonics of directions, rows in and rows out; see math/spherical_harmonics.h for the basis.
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

// What degrees above 8 need; nulls up to 8.
struct ShWork {
  const float* recurrence;  // for order m, band l >= m at index m * degree + l: start (l = m) or rise, then fall
  float* scratch;           // of this thread: degree^2 * 16 floats, aligned to 64 bytes
};

struct SphericalHarmonicsKernels {
  // directions [N, 3] -> out [N, degree^2], points begin .. end.
  void (*forward)(const float* directions, float* out, int64_t begin, int64_t end, int degree, ShWork work);
  // gradient [N, degree^2] of the outputs -> out [N, 3] of the directions.
  void (*backward)(const float* directions, const float* gradient, float* out, int64_t begin, int64_t end, int degree,
                   ShWork work);
};

constexpr int sh_fixed_degrees = 8;

POLYFIELD_FAMILY(SphericalHarmonicsKernels, spherical_harmonics)

}  // namespace polyfield
