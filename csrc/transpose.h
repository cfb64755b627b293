// Between rows (one point after another, as tensors lie in memory) and columns (one feature of W points a vector, as
// kernels compute): W x W blocks turned in registers.
//
// Included by kernel files only, as simd.h is.
#pragma once

#include "simd.h"

namespace polyfield {
namespace POLYFIELD_ISA {

// The first and the second half of a0 b0 a1 b1 a2 b2 ...
PF_INLINE void interleave(vf a, vf b, vf* low, vf* high) {
#if defined(__AVX512F__)
  *low = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  *high = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif defined(__AVX2__)
  *low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  *high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  *low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  *high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
}

// Lane j of vector i becomes lane i of vector j: log2(W) rounds of a perfect shuffle.
PF_INLINE void transpose(vf* v) {
  vf other[W];
  vf *from = v, *to = other;
  for (int round = 1; round < W; round *= 2) {
    for (int i = 0; i < W / 2; ++i) interleave(from[i], from[i + W / 2], &to[2 * i], &to[2 * i + 1]);
    vf* const turned = to;
    to = from;
    from = turned;
  }
  if (from != v)
    for (int i = 0; i < W; ++i) v[i] = from[i];
}

// The first n lanes of a row; with a mask where a memcpy of changing length would be a call.
PF_INLINE vf load_lanes(const float* p, int n) {
#if defined(__AVX512F__)
  return (vf)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
#else
  return load_part(p, n);
#endif
}
PF_INLINE void store_lanes(float* p, vf v, int n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
#else
  store_part(p, v, n);
#endif
}

// columns[f] holds feature f of W points; writes the first n points as rows of `width` floats.
PF_INLINE void store_rows(const vf* columns, int width, float* rows, int n) {
  for (int f = 0; f < width; f += W) {
    const int part = width - f < W ? width - f : W;
    vf block[W];
    for (int i = 0; i < W; ++i) block[i] = i < part ? columns[f + i] : vf{};
    transpose(block);
    if (part == W && n == W) {
      for (int i = 0; i < W; ++i) store(rows + static_cast<int64_t>(i) * width + f, block[i]);
    } else {
      for (int i = 0; i < n; ++i) store_lanes(rows + static_cast<int64_t>(i) * width + f, block[i], part);
    }
  }
}

// The way back; points beyond n read as zero.
PF_INLINE void load_rows(vf* columns, int width, const float* rows, int n) {
  for (int f = 0; f < width; f += W) {
    const int part = width - f < W ? width - f : W;
    vf block[W];
    for (int i = 0; i < W; ++i) {
      const float* row = rows + static_cast<int64_t>(i) * width + f;
      block[i] = i >= n ? vf{} : part == W ? load(row) : load_lanes(row, part);
    }
    transpose(block);
    for (int i = 0; i < part; ++i) columns[f + i] = block[i];
  }
}

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
