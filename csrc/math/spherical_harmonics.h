// Real spherical harmonics of one direction, and their gradient, for a degree known to the compiler.
//
// With (c_m, s_m) the real and imaginary part of (x + iy)^m and Q the normalised Legendre functions divided by
// sin^m, Y_l^{+m} = sqrt(2) Q_l^m c_m and Y_l^{-m} = sqrt(2) Q_l^m s_m; the three-term recurrence of Q over l is stable and has
// no pole (Condon-Shortley phase included; basis and signs are those of tiny-cuda-nn). Order: l^2 + l + m.
//
// T is float, or a vector of floats.
#pragma once

#include "math/hd.h"

namespace polyfield {
namespace {

// Square root for constants: Newton's steps from above, monotone, 40 are enough for any x in [1e-6, 1e6].
POLYFIELD_HD constexpr double constant_root(double x) {
  double root = x > 1 ? x : 1;
  for (int step = 0; step < 40; ++step) root = 0.5 * (root + x / root);
  return root;
}

// Q_m^m, with the sqrt(2) of m > 0.
POLYFIELD_HD constexpr double sh_start(int m) {
  double q = constant_root(0.0795774715459476678844);  // 1 / (4 pi)
  for (int i = 1; i <= m; ++i) q *= -constant_root((2.0 * i + 1) / (2.0 * i));
  return m > 0 ? q * constant_root(2) : q;
}

// Q_l = rise * z * Q_{l-1} - fall * Q_{l-2}
POLYFIELD_HD constexpr double sh_rise(int l, int m) {
  return constant_root((4.0 * l * l - 1) / (1.0 * (l - m) * (l + m)));
}
POLYFIELD_HD constexpr double sh_fall(int l, int m) {
  return sh_rise(l, m) * constant_root((1.0 * (l - 1 - m) * (l - 1 + m)) / (4.0 * (l - 1) * (l - 1) - 1));
}

// Bands l = L .. Degree - 1 of order M, given Q at L - 1 and L - 2 and (c, s) of this order.
template <int Degree, int M, int L, class T>
POLYFIELD_HD_FORCED void sh_bands(T z, T c, T s, T last, T before, T* out) {
  if constexpr (L < Degree) {
    T q;
    if constexpr (L == M + 1) {
      constexpr float rise = static_cast<float>(sh_rise(L, M));
      q = rise * z * last;
    } else {
      constexpr float rise = static_cast<float>(sh_rise(L, M)), fall = static_cast<float>(sh_fall(L, M));
      q = rise * z * last - fall * before;
    }
    out[L * L + L + M] = q * c;
    if constexpr (M > 0) out[L * L + L - M] = q * s;
    sh_bands<Degree, M, L + 1>(z, c, s, q, last, out);
  }
}

// Orders m = M .. Degree - 1, given (c, s) of order M.
template <int Degree, int M, class T>
POLYFIELD_HD_FORCED void sh_orders(T x, T y, T z, T c, T s, T* out) {
  if constexpr (M < Degree) {
    constexpr float start = static_cast<float>(sh_start(M));
    out[M * M + 2 * M] = start * c;
    if constexpr (M > 0) out[M * M] = start * s;
    sh_bands<Degree, M, M + 1>(z, c, s, T{} + start, T{}, out);
    sh_orders<Degree, M + 1>(x, y, z, x * c - y * s, x * s + y * c, out);
  }
}

// out[Degree^2] at (x, y, z), which need not have length one.
template <int Degree, class T>
POLYFIELD_HD_FORCED void sh_values(T x, T y, T z, T* out) {
  sh_orders<Degree, 0>(x, y, z, T{} + 1.f, T{}, out);
}

// Sums over l of order M: of Q g and of dQ/dz g, for the cosine part (c) and the sine part (s).
template <class T>
struct ShSums {
  T c, s, dc, ds;
};

template <int Degree, int M, int L, class T>
POLYFIELD_HD_FORCED void sh_band_sums(T z, T last, T before, T dlast, T dbefore, const T* g, ShSums<T>* sums) {
  if constexpr (L < Degree) {
    T q, dq;
    constexpr float rise = static_cast<float>(sh_rise(L, M));
    if constexpr (L == M + 1) {
      q = rise * z * last;
      dq = rise * last;
    } else {
      constexpr float fall = static_cast<float>(sh_fall(L, M));
      q = rise * z * last - fall * before;
      dq = rise * (last + z * dlast) - fall * dbefore;
    }
    sums->c += q * g[L * L + L + M];
    sums->dc += dq * g[L * L + L + M];
    if constexpr (M > 0) {
      sums->s += q * g[L * L + L - M];
      sums->ds += dq * g[L * L + L - M];
    }
    sh_band_sums<Degree, M, L + 1>(z, q, last, dq, dlast, g, sums);
  }
}

template <int Degree, int M, class T>
POLYFIELD_HD_FORCED void sh_order_gradients(T x, T y, T z, T c, T s, T c_before, T s_before, const T* g, T* gradient) {
  if constexpr (M < Degree) {
    constexpr float start = static_cast<float>(sh_start(M));
    ShSums<T> sums{T{}, T{}, T{}, T{}};
    sums.c = start * g[M * M + 2 * M];
    if constexpr (M > 0) sums.s = start * g[M * M];
    sh_band_sums<Degree, M, M + 1>(z, T{} + start, T{}, T{}, T{}, g, &sums);
    if constexpr (M > 0) {  // d(x + iy)^m is m (x + iy)^(m - 1) times dx + i dy
      gradient[0] += static_cast<float>(M) * (c_before * sums.c + s_before * sums.s);
      gradient[1] += static_cast<float>(M) * (c_before * sums.s - s_before * sums.c);
    }
    gradient[2] += c * sums.dc + s * sums.ds;
    sh_order_gradients<Degree, M + 1>(x, y, z, x * c - y * s, x * s + y * c, c, s, g, gradient);
  }
}

// gradient[3] = sum over the outputs of g[output] * d output / d (x, y, z).
template <int Degree, class T>
POLYFIELD_HD_FORCED void sh_gradient(T x, T y, T z, const T* g, T* gradient) {
  gradient[0] = gradient[1] = gradient[2] = T{};
  sh_order_gradients<Degree, 0>(x, y, z, T{} + 1.f, T{}, T{}, T{}, g, gradient);
}

}  // namespace
}  // namespace polyfield
