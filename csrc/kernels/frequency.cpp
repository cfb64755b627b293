#include "kernels/frequency.h"

#include "math/frequency.h"
#include "simd.h"
#include "transpose.h"

namespace polyfield {
namespace POLYFIELD_ISA {

// Floor for any size: from 2^24 on, a float is whole already (and the plain path's floor goes through 32-bit integers).
PF_INLINE vf floor_any(vf x) { return select((vi)max(x, -x) < (vi)splat(16777216.f), floor(x), x); }

PF_INLINE void sin_cos_pi(vf t, vf* sine, vf* cosine) {
  t = t - splat(2.f) * floor_any(t * splat(0.5f));
  const vf half_turns = floor(t * splat(2.f) + splat(0.5f));
  vf s, c;
  sin_cos_pi_from(t, half_turns, &s, &c);
  const vi q = to_int(half_turns);
  const vi swap = (q & 1) != 0;
  const vi sine_sign = (q & 2) << 30, cosine_sign = ((q + 1) & 2) << 30;
  *sine = (vf)((vi)select(swap, c, s) ^ sine_sign);
  *cosine = (vf)((vi)select(swap, s, c) ^ cosine_sign);
}

PF_INLINE int points_left(int64_t i, int64_t end) { return end - i < W ? static_cast<int>(end - i) : W; }

static void forward(const float* x, float* out, int64_t begin, int64_t end, FrequencyShape shape, float* scratch) {
  const int dim = shape.dim, width = shape.width();
  vf* columns = reinterpret_cast<vf*>(scratch);
  vf* input = columns + width;
  for (int64_t i = begin; i < end; i += W) {
    const int n = points_left(i, end);
    load_rows(input, dim, x + i * dim, n);
    vf* feature = columns;
    if (shape.include_input)
      for (int d = 0; d < dim; ++d) *feature++ = input[d];
    float scale = 1;
    for (int k = 0; k < shape.octaves; ++k, scale *= 2, feature += 2 * dim)
      for (int d = 0; d < dim; ++d) sin_cos_pi(scale * input[d], feature + d, feature + dim + d);
    store_rows(columns, width, out + i * width, n);
  }
}

static void backward(const float* x, const float* gradient, float* out, int64_t begin, int64_t end, FrequencyShape shape,
                     float* scratch) {
  const int dim = shape.dim, width = shape.width();
  vf* columns = reinterpret_cast<vf*>(scratch);
  vf* input = columns + width;
  for (int64_t i = begin; i < end; i += W) {
    const int n = points_left(i, end);
    load_rows(input, dim, x + i * dim, n);
    load_rows(columns, width, gradient + i * width, n);
    for (int d = 0; d < dim; ++d) {
      const vf* g = columns + d;
      vf to = {};
      if (shape.include_input) {
        to = *g;
        g += dim;
      }
      float scale = 1;
      for (int k = 0; k < shape.octaves; ++k, scale *= 2, g += 2 * dim) {
        vf s, c;
        sin_cos_pi(scale * input[d], &s, &c);
        to += (scale * 3.14159265f) * (c * g[0] - s * g[dim]);
      }
      input[d] = to;
    }
    store_rows(input, dim, out + i * dim, n);
  }
}

const FrequencyKernels frequency = {forward, backward};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
