// Multi-layer perceptron: all layers of a tile of points at once, so that nothing between them meets memory.
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

enum class Activation { none = 0, relu = 1, sine = 2, softplus = 3 };

// Weights lie flat: the matrices [out, in] of all layers, row-major, then (with bias) the biases of all layers. A
// layer named in `skips` reads its hidden columns first and the network's input after them.
struct MlpShape {
  int64_t inputs, outputs, width, hidden;  // hidden: number of hidden layers, 1..8
  Activation activation;
  float scale;     // sine: sin(scale z); softplus: log(1 + exp(scale z)) / scale
  bool bias;
  uint64_t skips;  // bit l: layer l (0 is the first matrix) reads the input again
};

// A matrix [points, features] in memory; one of the two strides is 1.
template <class T>
struct PointMatrix {
  T* data;
  int64_t point, feature;  // strides in elements
};

// Row n of the input is x[n] followed by condition[rows[n]].
struct MlpInput {
  PointMatrix<const float> x;
  int64_t x_columns;
  const float* condition;  // [condition_rows, condition_columns] or nullptr
  const int32_t* rows;     // [points], each in [0, condition_rows)
  int64_t condition_rows, condition_columns;
};

// What the backward pass writes; a null address means "not wanted".
struct MlpGradients {
  PointMatrix<float> x;
  float* weights;    // flat, overwritten
  float* condition;  // [condition_rows, condition_columns], overwritten
};

// bf16: operands of all matrix products are rounded to bfloat16 (nearest even), sums and activations are fp32.
// The backward pass computes the hidden layers again instead of reading saved ones. Same thread count, same bits.
struct MlpKernels {
  void (*forward)(const MlpShape&, const MlpInput&, const float* weights, bool bf16, PointMatrix<float> y, int64_t points);
  void (*backward)(const MlpShape&, const MlpInput&, const float* weights, bool bf16, PointMatrix<const float> dy,
                   const MlpGradients&, int64_t points);
};
POLYFIELD_FAMILY(MlpKernels, mlp)

}  // namespace polyfield
