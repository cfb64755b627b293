// sin(pi t) and cos(pi t) to about one unit in the last place for any finite t.
//
// pi itself needs no range reduction: t mod 2 is exact, and so are the steps down to |r| <= 1/4, where two short polynomials
// (relative minimax, by a fit in float64) do the rest. t = 2^k x is exact too, so high octaves lose nothing.
//
// T is float, or a vector of floats; I the integer of the same width.
#pragma once

#include <cstdint>

#include "math/hd.h"

namespace polyfield {
namespace {

// For |r| <= 1/4; relative error of the polynomials 5e-12 and 6e-11, of their float evaluation about 1 ulp.
template <class T>
POLYFIELD_HD_FORCED T sin_pi_small(T r) {
  const T u = r * r;
  return r * (3.14159265f + u * (-5.16771277f + u * (2.55016281f + u * (-0.5992054f + u * 0.08102476f))));
}
template <class T>
POLYFIELD_HD_FORCED T cos_pi_small(T r) {
  const T u = r * r;
  return 1.f + u * (-4.93480217f + u * (4.05870762f + u * (-1.33505057f + u * 0.23136423f)));
}

// t in [0, 2), half_turns = round(2 t) in 0 .. 4: angle pi t = half_turns pi / 2 + pi r.
template <class T>
POLYFIELD_HD_FORCED void sin_cos_pi_from(T t, T half_turns, T* sine, T* cosine) {
  const T r = t - half_turns * 0.5f;
  *sine = sin_pi_small(r);
  *cosine = cos_pi_small(r);
}

}  // namespace
}  // namespace polyfield
