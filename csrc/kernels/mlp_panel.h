// Panels of 64 points: filling them from memory, writing them back, and turning them round.
//
// A float panel is [features][64]; an engine's panel holds the same as words, [features / PAIR][64].
#pragma once

#include "mlp.h"
#include "mlp_product.h"
#include "transpose.h"

namespace polyfield {
namespace POLYFIELD_ISA {

// The first n floats, where n may exceed a vector; the other lanes are zero / left alone.
PF_INLINE vf load_some(const float* p, int64_t n) { return n >= W ? load(p) : load_lanes(p, static_cast<int>(n)); }
PF_INLINE void store_some(float* p, vf v, int64_t n) {
  if (n >= W)
    store(p, v);
  else
    store_lanes(p, v, static_cast<int>(n));
}

// Fills rows [0, columns) of a float panel from `count` rows of memory, address(p) giving the start of point p's.
template <class RowAddress>
PF_INLINE void load_rows(float* panel, int64_t columns, int64_t count, RowAddress address) {
  for (int64_t p = 0; p < PANEL; p += W) {
    const float* row[W];
    for (int k = 0; k < W; ++k) row[k] = address(p + k < count ? p + k : count - 1);
    for (int64_t f = 0; f < columns; f += W) {
      vf block[W];
#pragma GCC unroll 16
      for (int k = 0; k < W; ++k) block[k] = load_some(row[k] + f, columns - f);
      transpose(block);
      const int64_t fresh = columns - f < W ? columns - f : W;
      if (fresh == W) {
#pragma GCC unroll 16
        for (int k = 0; k < W; ++k) store(panel + (f + k) * PANEL + p, block[k]);
      } else {
        for (int k = 0; k < fresh; ++k) store(panel + (f + k) * PANEL + p, block[k]);
      }
    }
  }
}

// Fills rows [0, columns) of a float panel from points [first, first + count). Points past the end repeat the last one.
PF_INLINE void load_matrix(float* panel, PointMatrix<const float> m, int64_t columns, int64_t first, int64_t count) {
  if (m.point != 1) {  // row-major
    const float* start = m.data + first * m.point;
    load_rows(panel, columns, count, [=](int64_t p) { return start + p * m.point; });
    return;
  }
  for (int64_t f = 0; f < columns; ++f) {
    const float* from = m.data + f * m.feature + first;
    float* to = panel + f * PANEL;
    if (count == PANEL) {
#pragma GCC unroll 16
      for (int64_t p = 0; p < PANEL; p += W) store(to + p, load(from + p));
    } else {
      for (int64_t p = 0; p < PANEL; ++p) to[p] = from[p < count ? p : count - 1];
    }
  }
}

// Writes rows [0, columns) of a float panel to points [first, first + count).
PF_INLINE void store_matrix(const float* panel, PointMatrix<float> m, int64_t columns, int64_t first, int64_t count) {
  if (m.point != 1) {
    float* start = m.data + first * m.point;
    for (int64_t p = 0; p < count; p += W)
      for (int64_t f = 0; f < columns; f += W) {
        vf block[W];
        for (int k = 0; k < W; ++k) block[k] = f + k < columns ? load(panel + (f + k) * PANEL + p) : vf{};
        transpose(block);
        for (int k = 0; k < W && p + k < count; ++k) store_some(start + (p + k) * m.point + f, block[k], columns - f);
      }
    return;
  }
  for (int64_t f = 0; f < columns; ++f) {
    float* to = m.data + f * m.feature + first;
    for (int64_t p = 0; p < count; p += W) store_some(to + p, load(panel + f * PANEL + p), count - p);
  }
}

PF_INLINE void load_input(float* panel, const MlpInput& input, int64_t first, int64_t count) {
  load_matrix(panel, input.x, input.x_columns, first, count);
  if (input.condition == nullptr) return;
  const float* table = input.condition;
  const int64_t stride = input.condition_columns;
  const int32_t* rows = input.rows + first;
  load_rows(panel + input.x_columns * PANEL, stride, count, [=](int64_t p) { return table + rows[p] * stride; });
}

PF_INLINE void clear_rows(float* panel, int64_t from, int64_t to) {
  if (to > from) __builtin_memset(panel + from * PANEL, 0, (to - from) * PANEL * sizeof(float));
}

// Turns a float panel into an engine's panel.
template <class E>
PF_INLINE void to_words(word* words, const float* panel, int64_t features) {
  for (int64_t o = 0; o < features; o += 2)
    for (int64_t n = 0; n < PANEL; n += W) {
      Block<2, 1> block;
      block.at[0][0] = load(panel + o * PANEL + n);
      block.at[1][0] = load(panel + (o + 1) * PANEL + n);
      E::store(words, o, n, block);
    }
}

// Turns an engine's panel of pairs into its "plain" form, for sums along points.
template <class E>
PF_INLINE void to_plain([[maybe_unused]] word* plain, [[maybe_unused]] const word* panel, [[maybe_unused]] int64_t features) {
#if defined(__AVX512BF16__)
  if constexpr (E::PAIR == 2) {
    for (int64_t o = 0; o < features; o += 2)
      for (int64_t n = 0; n < PANEL; n += 2 * W) {
        const word* from = panel + o / 2 * PANEL + n;
        E::put_plain(plain + o * (PANEL / 2) + n / 2, _mm512_loadu_si512(from), _mm512_loadu_si512(from + W));
      }
  }
#endif
}

// Turns [features / PAIR][64] into [64 / PAIR][columns]: a word then holds PAIR points of one feature. Features from
// `features` to `columns` become zero.
template <class E>
PF_INLINE void turn(word* turned, const word* panel, int64_t features, int64_t columns) {
  for (int64_t r = 0; r < columns / E::PAIR; r += W)
    for (int64_t p = 0; p < PANEL; p += W) {
      vf block[W];
#pragma GCC unroll 16
      for (int k = 0; k < W; ++k)
        block[k] = r + k < features / E::PAIR ? load((const float*)panel + (r + k) * PANEL + p) : vf{};
      transpose(block);
      if constexpr (E::PAIR == 1) {
#pragma GCC unroll 16
        for (int k = 0; k < W; ++k) store((float*)turned + (p + k) * columns + r, block[k]);
      } else {
#if defined(__AVX512BF16__)
        // block[k]: features 2r .. 2r + 31 of point p + k. Take even and odd points together, feature by feature.
        const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4,
                                             35, 3, 34, 2, 33, 1, 32, 0);
        const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
        const bool whole = r * 2 + 32 <= columns;
#pragma GCC unroll 8
        for (int k = 0; k < W; k += 2) {
          word* to = turned + (p + k) / 2 * columns + 2 * r;
          const __m512i a = (__m512i)block[k], b = (__m512i)block[k + 1];
          const __m512i first = _mm512_permutex2var_epi16(a, low, b);
          __builtin_memcpy(to, &first, sizeof first);
          if (!whole) continue;
          const __m512i second = _mm512_permutex2var_epi16(a, high, b);
          __builtin_memcpy(to + 16, &second, sizeof second);
        }
#endif
      }
    }
}

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
