// Activations of hidden layers and their slopes, on whole vectors.
#pragma once

#include "mlp.h"
#include "simd.h"

namespace polyfield {
namespace POLYFIELD_ISA {

// sin and cos of |x| < 10^5 to about 2 ulp of 1: pi / 2 is taken off in three parts (Cody and Waite), then minimax
// polynomials on [-pi/4, pi/4] (coefficients: Cephes, single precision).
PF_INLINE void sin_cos(vf x, vf& sine, vf& cosine) {
  const vf turns = floor(fma(x, splat(0.636619772367581343f), splat(0.5f)));
  vf r = fma(turns, splat(-1.5703125f), x);
  r = fma(turns, splat(-4.837512969970703125e-4f), r);
  r = fma(turns, splat(-7.549789948768648e-8f), r);
  const vf r2 = r * r;
  vf s = splat(-1.9515295891e-4f);
  s = fma(s, r2, splat(8.3321608736e-3f));
  s = fma(s, r2, splat(-1.6666654611e-1f));
  s = fma(s * r2, r, r);
  vf c = splat(2.443315711809948e-5f);
  c = fma(c, r2, splat(-1.388731625493765e-3f));
  c = fma(c, r2, splat(4.166664568298827e-2f));
  c = fma(c * r2, r2, fma(r2, splat(-0.5f), splat(1.f)));
  const vi quarter = to_int(turns);
  const vi odd = (quarter & 1) != 0;
  const vu flip_sine = (vu)(quarter & 2) << 30, flip_cosine = (vu)((quarter + 1) & 2) << 30;
  sine = (vf)((vu)select(odd, c, s) ^ flip_sine);
  cosine = (vf)((vu)select(odd, s, c) ^ flip_cosine);
}

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
