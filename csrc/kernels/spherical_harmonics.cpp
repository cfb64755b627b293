#include "kernels/spherical_harmonics.h"

#include "math/spherical_harmonics.h"
#include "simd.h"
#include "transpose.h"

namespace polyfield {
namespace POLYFIELD_ISA {

// Three columns of up to W rows of three; the rest of the lanes are zero.
PF_INLINE void load_directions(const float* rows, int n, vf* column) {
#if defined(__AVX512F__)
  if (n == W) {  // 48 floats in three vectors; the first shuffle takes what lies in the first two
    alignas(64) static const int32_t first[3][16] = {{0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 0, 0, 0, 0, 0},
                                                     {1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 0, 0, 0, 0, 0},
                                                     {2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 0, 0, 0, 0, 0, 0}};
    alignas(64) static const int32_t second[3][16] = {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 17, 20, 23, 26, 29},
                                                      {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 18, 21, 24, 27, 30},
                                                      {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 19, 22, 25, 28, 31}};
    const vf a = load(rows), b = load(rows + 16), c = load(rows + 32);
    for (int i = 0; i < 3; ++i) {
      const __m512 ab = _mm512_permutex2var_ps((__m512)a, _mm512_load_si512(first[i]), (__m512)b);
      column[i] = (vf)_mm512_permutex2var_ps(ab, _mm512_load_si512(second[i]), (__m512)c);
    }
    return;
  }
#endif
  float lane[3][W] = {};
  for (int i = 0; i < n; ++i)
    for (int d = 0; d < 3; ++d) lane[d][i] = rows[3 * i + d];
  for (int d = 0; d < 3; ++d) column[d] = load(lane[d]);
}

PF_INLINE void store_directions(const vf* column, float* rows, int n) {
  float lane[3][W];
  for (int d = 0; d < 3; ++d) store(lane[d], column[d]);
  for (int i = 0; i < n; ++i)
    for (int d = 0; d < 3; ++d) rows[3 * i + d] = lane[d][i];
}

PF_INLINE int points_left(int64_t i, int64_t end) { return end - i < W ? static_cast<int>(end - i) : W; }

template <int Degree>
static void forward_fixed(const float* directions, float* out, int64_t begin, int64_t end) {
  constexpr int width = Degree * Degree;
  for (int64_t i = begin; i < end; i += W) {
    const int n = points_left(i, end);
    vf d[3], values[width];
    load_directions(directions + 3 * i, n, d);
    sh_values<Degree>(d[0], d[1], d[2], values);
    if (n == W)
      store_rows(values, width, out + i * width, W);
    else
      store_rows(values, width, out + i * width, n);
  }
}

template <int Degree>
static void backward_fixed(const float* directions, const float* gradient, float* out, int64_t begin, int64_t end) {
  constexpr int width = Degree * Degree;
  for (int64_t i = begin; i < end; i += W) {
    const int n = points_left(i, end);
    vf d[3], g[width], to[3];
    load_directions(directions + 3 * i, n, d);
    load_rows(g, width, gradient + i * width, n);
    sh_gradient<Degree>(d[0], d[1], d[2], g, to);
    store_directions(to, out + 3 * i, n);
  }
}

// Any degree: the same recurrence with its constants from memory.
static void forward_any(const float* directions, float* out, int64_t begin, int64_t end, int degree, ShWork work) {
  const int width = degree * degree;
  vf* values = reinterpret_cast<vf*>(work.scratch);
  for (int64_t i = begin; i < end; i += W) {
    const int n = points_left(i, end);
    vf d[3];
    load_directions(directions + 3 * i, n, d);
    const vf x = d[0], y = d[1], z = d[2];
    vf c = splat(1.f), s = {};
    for (int m = 0; m < degree; ++m) {
      const float* constant = work.recurrence + 2 * (m * degree);
      vf last = splat(constant[2 * m]), before = {};
      for (int l = m; l < degree; ++l) {
        if (l > m) {
          const vf q = constant[2 * l] * z * last - constant[2 * l + 1] * before;
          before = last;
          last = q;
        }
        values[l * l + l + m] = last * c;
        if (m > 0) values[l * l + l - m] = last * s;
      }
      const vf next = x * c - y * s;
      s = x * s + y * c;
      c = next;
    }
    store_rows(values, width, out + i * width, n);
  }
}

static void backward_any(const float* directions, const float* gradient, float* out, int64_t begin, int64_t end,
                         int degree, ShWork work) {
  const int width = degree * degree;
  vf* g = reinterpret_cast<vf*>(work.scratch);
  for (int64_t i = begin; i < end; i += W) {
    const int n = points_left(i, end);
    vf d[3], to[3] = {};
    load_directions(directions + 3 * i, n, d);
    load_rows(g, width, gradient + i * width, n);
    const vf x = d[0], y = d[1], z = d[2];
    vf c = splat(1.f), s = {}, c_before = {}, s_before = {};
    for (int m = 0; m < degree; ++m) {
      const float* constant = work.recurrence + 2 * (m * degree);
      vf last = splat(constant[2 * m]), before = {}, dlast = {}, dbefore = {};
      ShSums<vf> sums{};
      for (int l = m; l < degree; ++l) {
        if (l > m) {
          const vf rise = splat(constant[2 * l]), fall = splat(constant[2 * l + 1]);
          const vf q = rise * z * last - fall * before;
          const vf dq = rise * (last + z * dlast) - fall * dbefore;
          before = last;
          last = q;
          dbefore = dlast;
          dlast = dq;
        }
        sums.c += last * g[l * l + l + m];
        sums.dc += dlast * g[l * l + l + m];
        if (m > 0) {
          sums.s += last * g[l * l + l - m];
          sums.ds += dlast * g[l * l + l - m];
        }
      }
      to[0] += static_cast<float>(m) * (c_before * sums.c + s_before * sums.s);
      to[1] += static_cast<float>(m) * (c_before * sums.s - s_before * sums.c);
      to[2] += c * sums.dc + s * sums.ds;
      c_before = c;
      s_before = s;
      c = x * c_before - y * s_before;
      s = x * s_before + y * c_before;
    }
    store_directions(to, out + 3 * i, n);
  }
}

static void forward(const float* directions, float* out, int64_t begin, int64_t end, int degree, ShWork work) {
  switch (degree) {
    case 1: return forward_fixed<1>(directions, out, begin, end);
    case 2: return forward_fixed<2>(directions, out, begin, end);
    case 3: return forward_fixed<3>(directions, out, begin, end);
    case 4: return forward_fixed<4>(directions, out, begin, end);
    case 5: return forward_fixed<5>(directions, out, begin, end);
    case 6: return forward_fixed<6>(directions, out, begin, end);
    case 7: return forward_fixed<7>(directions, out, begin, end);
    case 8: return forward_fixed<8>(directions, out, begin, end);
    default: return forward_any(directions, out, begin, end, degree, work);
  }
}

static void backward(const float* directions, const float* gradient, float* out, int64_t begin, int64_t end, int degree,
                     ShWork work) {
  switch (degree) {
    case 1: return backward_fixed<1>(directions, gradient, out, begin, end);
    case 2: return backward_fixed<2>(directions, gradient, out, begin, end);
    case 3: return backward_fixed<3>(directions, gradient, out, begin, end);
    case 4: return backward_fixed<4>(directions, gradient, out, begin, end);
    case 5: return backward_fixed<5>(directions, gradient, out, begin, end);
    case 6: return backward_fixed<6>(directions, gradient, out, begin, end);
    case 7: return backward_fixed<7>(directions, gradient, out, begin, end);
    case 8: return backward_fixed<8>(directions, gradient, out, begin, end);
    default: return backward_any(directions, gradient, out, begin, end, degree, work);
  }
}

const SphericalHarmonicsKernels spherical_harmonics = {forward, backward};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
