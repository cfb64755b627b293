// Multi-layer perceptron: all layers of a tile of points at once, so that nothing between them meets memory.
#pragma once

#include <cstdint>

#include "dispatch.h"
#include "math/hd.h"

namespace polyfield {

enum class Activation { none = 0, relu = 1, sine = 2, softplus = 3, gaussian = 4, sigmoid = 5 };

// Weights lie flat: the matrices [out, in] of all layers, row-major, then (with bias) the biases of all layers. A
// layer named in `skips` reads its hidden columns first and the network's input after them.
struct MlpShape {
  int64_t inputs, outputs, width, hidden;  // hidden: number of hidden layers, 1..8
  Activation activation;  // of the hidden layers: not sigmoid
  float scale;     // sine: sin(scale z); softplus: log(1 + exp(scale z)) / scale; gaussian: exp(-max(scale z, 0) / 2)
  bool bias;
  uint64_t skips;  // bit l: layer l (0 is the first matrix) reads the input again
  Activation output_activation = Activation::none;  // or sigmoid
  // The first hidden layer gives z + sin(m z) instead, m log-spaced over its columns between these two; 0: it does not.
  double lowest_frequency = 0, highest_frequency = 0;

  POLYFIELD_HD bool composed() const { return lowest_frequency > 0; }
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

// Inputs of all layers that the forward pass leaves for the backward pass, of the first `points` points; the backward
// pass computes those of the others again, to the same bits.
struct MlpSaved {
  char* data;  // as many bytes as `saved_bytes` says, aligned to 4, better to 64
  int64_t points;
};

// The result and the gradient that comes back to it.
struct MlpUpstream {
  PointMatrix<const float> dy;
  PointMatrix<const float> y;  // read with an output activation only
};

// bf16: operands of all matrix products are rounded to bfloat16 (nearest even), sums and activations are fp32.
// Same thread count, same bits.
struct MlpKernels {
  int64_t (*saved_bytes)(const MlpShape&, bool bf16, int64_t points);
  void (*forward)(const MlpShape&, const MlpInput&, const float* weights, bool bf16, PointMatrix<float> y, int64_t points,
                  const MlpSaved&);
  void (*backward)(const MlpShape&, const MlpInput&, const float* weights, bool bf16, const MlpUpstream&,
                   const MlpGradients&, int64_t points, const MlpSaved&);
};
POLYFIELD_FAMILY(MlpKernels, mlp)

}  // namespace polyfield
