// Activations of hidden layers and their slopes, on whole vectors.
#pragma once

#include "mlp.h"
#include "simd.h"
#include "sine.h"

namespace polyfield {
namespace POLYFIELD_ISA {

// log(1 + y) for y in [0, 1], to 2 ulp: 2 atanh(y / (2 + y)) by its series.
PF_INLINE vf log1p_unit(vf y) {
  const vf q = y / (y + splat(2.f)), q2 = q * q;
  vf p = splat(2.f / 15.f);
  p = fma(p, q2, splat(2.f / 13.f));
  p = fma(p, q2, splat(2.f / 11.f));
  p = fma(p, q2, splat(2.f / 9.f));
  p = fma(p, q2, splat(2.f / 7.f));
  p = fma(p, q2, splat(2.f / 5.f));
  p = fma(p, q2, splat(2.f / 3.f));
  return fma(p * q2, q, q + q);
}

// A NaN passes: the hardware's maximum returns its second operand then.
PF_INLINE vf relu(vf z) {
#if defined(__AVX512F__)
  return (vf)_mm512_max_ps(_mm512_setzero_ps(), (__m512)z);
#elif defined(__AVX2__)
  return (vf)_mm256_max_ps(_mm256_setzero_ps(), (__m256)z);
#else
  return select(z < vf{}, vf{}, z);
#endif
}

// The activation of z; with SLOPE also its derivative. `scale` is as in MlpShape.
template <Activation A, bool SLOPE>
PF_INLINE vf activate(vf z, vf scale, vf inverse, vf& slope) {
  if constexpr (A == Activation::relu) {
    return relu(z);  // the slope is read off the result
  } else if constexpr (A == Activation::sine) {
    vf s, c;
    sin_cos(z * scale, s, c);
    if (SLOPE) slope = c * scale;
    return s;
  } else if constexpr (A == Activation::softplus) {
    const vf t = z * scale;
    const vf e = exp(select(t < vf{}, t, -t));
    if (SLOPE) slope = select(t < vf{}, e, splat(1.f)) / (e + splat(1.f));
    return fma(log1p_unit(e), inverse, select(t < vf{}, vf{}, z));
  } else if constexpr (A == Activation::gaussian) {
    const vf half = splat(-0.5f) * scale, value = exp(relu(z) * half);
    if (SLOPE) slope = select(z < vf{}, vf{}, half * value);  // at 0, the centre, that of the right side
    return value;
  } else {
    return z;
  }
}

PF_INLINE vf sigmoid(vf z) { return splat(1.f) / (splat(1.f) + exp(-z)); }

// Whether the backward pass needs stored slopes.
constexpr bool smooth(Activation a) {
  return a == Activation::sine || a == Activation::softplus || a == Activation::gaussian;
}

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
