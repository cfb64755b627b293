// Compositing packed samples along rays, and its gradient by sums from the back; see csrc/math/composite.h.
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

struct CompositeInputs {
  const float *sigma, *rgb, *t0, *t1;  // [N], [N, 3], [N], [N]
  const int64_t* offsets;              // [R + 1]
  const float* background;             // [R, 3]
};

struct CompositeOutputs {
  float *color, *depth, *opacity, *left;  // [R, 3], [R], [R], [R]
  float* weights;                         // [N]
};

// Gradients of the outputs; any may be null: zero.
struct CompositeCotangents {
  const float *color, *depth, *opacity, *left, *weights;
};

struct CompositeGradients {
  float *sigma, *rgb, *background;
};

struct CompositeKernels {
  void (*forward)(const CompositeInputs& in, const CompositeOutputs& out, int64_t begin, int64_t end);
  void (*backward)(const CompositeInputs& in, const float* weights, const float* left,
                   const CompositeCotangents& cotangents, const CompositeGradients& out, int64_t begin, int64_t end);
  // kept[r] = number of samples of ray r before which at least min_transmittance is left. `left` is what is left in
  // front of each ray's first sample, and then what is left behind the last one that counts; it may be null: 1.
  void (*visible)(const float* sigma, const float* t0, const float* t1, const int64_t* offsets,
                  float min_transmittance, int64_t begin, int64_t end, float* left, int64_t* kept);
};

POLYFIELD_FAMILY(CompositeKernels, composite)

}  // namespace polyfield
