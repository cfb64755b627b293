#include "mlp.h"

#include "mlp_backward.h"
#include "mlp_forward.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

#if defined(__AVX512BF16__)
using Bf16Engine = PairEngine;
#else
using Bf16Engine = FloatEngine<true>;
#endif

void forward(const MlpShape& shape, const MlpInput& input, const float* weights, bool bf16, PointMatrix<float> y,
             int64_t points) {
  if (bf16)
    forward_with<Bf16Engine>(shape, input, weights, y, points);
  else
    forward_with<FloatEngine<false>>(shape, input, weights, y, points);
}

void backward(const MlpShape& shape, const MlpInput& input, const float* weights, bool bf16, PointMatrix<const float> dy,
              const MlpGradients& gradients, int64_t points) {
  if (bf16)
    backward_with<Bf16Engine>(shape, input, weights, dy, gradients, points);
  else
    backward_with<FloatEngine<false>>(shape, input, weights, dy, gradients, points);
}

}  // namespace

extern const MlpKernels mlp = {forward, backward};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
