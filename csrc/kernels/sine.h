// Sines of large arguments, on whole vectors.
#pragma once

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

// The sine alone, as exact and in half the time: multiples of pi are taken off, then a minimax polynomial on
// [-pi/2, pi/2] (5e-9 before rounding; fitted for this file).
PF_INLINE vf sine(vf x) {
  const vf turns = floor(fma(x, splat(0.318309886183790672f), splat(0.5f)));
  vf r = fma(turns, splat(-3.140625f), x);
  r = fma(turns, splat(-9.67502593994140625e-4f), r);
  r = fma(turns, splat(-1.5099579897537296e-7f), r);
  const vf r2 = r * r;
  vf s = splat(2.60005472e-6f);
  s = fma(s, r2, splat(-1.98066152e-4f));
  s = fma(s, r2, splat(8.33301729e-3f));
  s = fma(s, r2, splat(-1.66666571e-1f));
  s = fma(s * r2, r, r);
  return (vf)((vu)s ^ ((vu)to_int(turns) << 31));
}

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
