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

int64_t saved_bytes(const MlpShape& shape, bool bf16, int64_t points) {
  const int64_t panels = (points + PANEL - 1) / PANEL;
  return panels * (bf16 ? record_bytes(Network<Bf16Engine>(shape)) : record_bytes(Network<FloatEngine<false>>(shape)));
}

void forward(const MlpShape& shape, const MlpInput& input, const float* weights, bool bf16, PointMatrix<float> y,
             int64_t points, const MlpSaved& saved) {
  if (bf16)
    forward_with<Bf16Engine>(shape, input, weights, y, points, saved);
  else
    forward_with<FloatEngine<false>>(shape, input, weights, y, points, saved);
}

void backward(const MlpShape& shape, const MlpInput& input, const float* weights, bool bf16, const MlpUpstream& from,
              const MlpGradients& gradients, int64_t points, const MlpSaved& saved) {
  if (bf16)
    backward_with<Bf16Engine>(shape, input, weights, from, gradients, points, saved);
  else
    backward_with<FloatEngine<false>>(shape, input, weights, from, gradients, points, saved);
}

}  // namespace

extern const MlpKernels mlp = {saved_bytes, forward, backward};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
