// Matrix products of the MLP over panels of 64 points, for one precision ("engine") at a time.
//
// All products have one form, in 32-bit words along the summed axis (one float, or a pair of bfloat16):
//   C[o][n] = sum over t, s of  rows[t][o][s] * columns[t][s][n]
// forward:      rows = weights [out][in],            columns = activations [in][64 points]
// input grads:  rows = weights transposed [in][out], columns = gradients [out][64 points]
// weight grads: rows = gradients [out][64 points],   columns = activations [64 points][in], t = panel
// The result goes, block by block and still in registers, to a functor `done(block, o, n)`.
#pragma once

#include <cstdint>

#include "transpose.h"

namespace polyfield {
namespace POLYFIELD_ISA {

typedef uint32_t word;
constexpr int64_t PANEL = 64;  // points that go through all layers together

PF_INLINE int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Nearest even bfloat16 of each lane, kept as a float. A NaN stays one.
PF_INLINE vf rounded(vf x) {
  const vu bits = (vu)x;
  const vf near = (vf)((bits + splat_u(0x7fff) + ((bits >> 16) & splat_u(1))) & splat_u(0xffff0000u));
  return select(x == x, near, x);
}

template <int OUTS, int VECS>
struct Block {
  vf at[OUTS][VECS];
};

// fp32, and bf16 by rounding what is stored and multiplying in fp32 (products of two bfloat16 are exact there).
template <bool ROUND>
struct FloatEngine {
  static constexpr int64_t PAIR = 1;  // values in a word
  static constexpr int64_t ROWS = 4, STEPS = 4, COLUMNS = 16;  // what these counts are padded to
  static constexpr bool TILES = false;
  PF_INLINE vf multiply_add(vf a, vf b, vf c) { return fma(a, b, c); }
  PF_INLINE vf stored(vf x) { return ROUND ? rounded(x) : x; }

  template <int OUTS, int VECS>
  PF_INLINE void store(word* panel, int64_t o, int64_t n, const Block<OUTS, VECS>& block) {
#pragma GCC unroll 16
    for (int i = 0; i < OUTS; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < VECS; ++j)
        polyfield::POLYFIELD_ISA::store((float*)panel + (o + i) * PANEL + n + j * W, stored(block.at[i][j]));
  }
  // Stores gradients, zero where `gate` (null: nowhere) is not positive. Its panels serve sums along points as they are.
  template <int OUTS, int VECS>
  PF_INLINE void store_gradients(word* panel, word*, const word* gate, int64_t o, int64_t n, Block<OUTS, VECS>& block) {
    if (gate != nullptr) {
#pragma GCC unroll 16
      for (int i = 0; i < OUTS; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < VECS; ++j) {
          const vf value = load((const float*)gate + (o + i) * PANEL + n + j * W);
          block.at[i][j] = select(value > vf{}, block.at[i][j], vf{});
        }
    }
    store(panel, o, n, block);
  }
  // Writes the first n values of v from position `at` of a row of words.
  PF_INLINE void put(word* row, int64_t at, vf v, int n) { store_lanes((float*)row + at, stored(v), n); }
};

#if defined(__AVX512BF16__)
// bf16 by the processor: a word holds features 2k (low half) and 2k + 1 of a point.
struct PairEngine {
  static constexpr int64_t PAIR = 2;
#if defined(__AMX_BF16__)
  static constexpr int64_t ROWS = 16, STEPS = 32, COLUMNS = 32;
  static constexpr bool TILES = true;
#else
  static constexpr int64_t ROWS = 4, STEPS = 4, COLUMNS = 16;
  static constexpr bool TILES = false;
#endif
  PF_INLINE vf multiply_add(vf a, vf b, vf c) { return (vf)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b); }
  PF_INLINE vf stored(vf x) { return rounded(x); }
  // Lane p: bf16 of low[p] and of high[p].
  PF_INLINE vu pair(vf low, vf high) {
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
    return (vu)_mm512_permutexvar_epi16(interleave(), both);
  }
  PF_INLINE __m512i interleave() {
    // 16-bit lane 2p takes lane p (low), lane 2p + 1 takes lane 16 + p (high).
    return _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2,
                            17, 1, 16, 0);
  }
  template <int OUTS, int VECS>
  PF_INLINE void store(word* panel, int64_t o, int64_t n, const Block<OUTS, VECS>& block) {
#pragma GCC unroll 8
    for (int i = 0; i < OUTS; i += 2)
#pragma GCC unroll 4
      for (int j = 0; j < VECS; ++j) {
        const vu words = pair(block.at[i][j], block.at[i + 1][j]);
        __builtin_memcpy(panel + (o + i) / 2 * PANEL + n + j * W, &words, sizeof words);
      }
  }
  // From features 2k and 2k + 1 of 32 points (a, then b) the "plain" form: [features][32] words that hold two points of
  // a feature each, for sums along points.
  PF_INLINE void put_plain(word* plain, __m512i a, __m512i b) {
    const __m512i even = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28, 26, 24, 22, 20, 18,
                                          16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odd = _mm512_add_epi16(even, _mm512_set1_epi16(1));
    _mm512_storeu_si512(plain, _mm512_permutex2var_epi16(a, even, b));
    _mm512_storeu_si512(plain + PANEL / 2, _mm512_permutex2var_epi16(a, odd, b));
  }
  // Stores gradients in both forms, zero where `gate` (null: nowhere) is not positive.
  template <int OUTS, int VECS>
  PF_INLINE void store_gradients(word* panel, word* plain, const word* gate, int64_t o, int64_t n, Block<OUTS, VECS>& block) {
#pragma GCC unroll 8
    for (int i = 0; i < OUTS; i += 2) {
      __m512i words[VECS];
      const int64_t at = (o + i) / 2 * PANEL + n;
#pragma GCC unroll 4
      for (int j = 0; j < VECS; ++j) {
        words[j] = (__m512i)pair(block.at[i][j], block.at[i + 1][j]);
        if (gate != nullptr) {  // a bfloat16 is positive if its bits are, as an integer
          const __m512i values = _mm512_loadu_si512(gate + at + j * W);
          words[j] = _mm512_maskz_mov_epi16(_mm512_cmpgt_epi16_mask(values, _mm512_setzero_si512()), words[j]);
        }
        _mm512_storeu_si512(panel + at + j * W, words[j]);
      }
#pragma GCC unroll 2
      for (int j = 0; j < VECS; j += 2) put_plain(plain + (o + i) * (PANEL / 2) + (n + j * W) / 2, words[j], words[j + 1]);
    }
  }
  // Writes the first n values of v from position `at` of a row of words.
  PF_INLINE void put(word* row, int64_t at, vf v, int n) {
    const __m256i values = (__m256i)_mm512_cvtneps_pbh((__m512)v);
    _mm256_mask_storeu_epi16((uint16_t*)row + at, static_cast<__mmask16>((1u << n) - 1), values);
  }
};
#endif

struct Rows {
  const word* data;
  int64_t stride, panel;  // words from row to row, and from panel to panel
};
struct Columns {
  const word* data;
  int64_t stride, panel;  // words from step to step, and from panel to panel
};

template <class E, int OUTS, int VECS, class Done>
PF_INLINE void product_block(Rows rows, Columns columns, int64_t steps, int64_t panels, int64_t o, int64_t n, Done& done) {
  Block<OUTS, VECS> sum = {};
  for (int64_t t = 0; t < panels; ++t) {
    const word* row = rows.data + t * rows.panel + o * rows.stride;
    const word* column = columns.data + t * columns.panel + n;
    for (int64_t s = 0; s < steps; ++s) {
      vf c[VECS];
#pragma GCC unroll 4
      for (int j = 0; j < VECS; ++j) c[j] = load((const float*)column + s * columns.stride + j * W);
#pragma GCC unroll 16
      for (int i = 0; i < OUTS; ++i) {
        const vf r = (vf)splat_u(row[i * rows.stride + s]);
#pragma GCC unroll 4
        for (int j = 0; j < VECS; ++j) sum.at[i][j] = E::multiply_add(r, c[j], sum.at[i][j]);
      }
    }
  }
  done(sum, o, n);
}

template <class E, int VECS, class Done>
PF_INLINE void product_slab(Rows rows, Columns columns, int64_t outs, int64_t steps, int64_t panels, int64_t n, Done& done) {
  int64_t o = 0;
  if (W == 16 && VECS == 4)  // 24 sums, 4 columns and a row fill the 32 registers; in twos, as `outs` is a multiple of 4
    for (; o + 12 <= outs; o += 12) {
      product_block<E, 6, VECS>(rows, columns, steps, panels, o, n, done);
      product_block<E, 6, VECS>(rows, columns, steps, panels, o + 6, n, done);
    }
  if (W == 16 && VECS <= 2)  // narrow slabs take more rows, to keep as many sums under way
    for (; o + 8 <= outs; o += 8) product_block<E, 8, VECS>(rows, columns, steps, panels, o, n, done);
  for (; o < outs; o += 4) product_block<E, 4, VECS>(rows, columns, steps, panels, o, n, done);
}

#if defined(__AMX_BF16__)
// Tiles 0-3 are sums of 16 x 16 floats, 4-5 take rows (16 x 32 bf16), 6-7 take columns (16 pairs x 16).
template <bool WANTED>
struct TileUse {};
template <>
struct TileUse<true> {
  TileUse() {
    struct alignas(64) {
      uint8_t palette, start_row, reserved[14];
      uint16_t bytes[16];
      uint8_t rows[16];
    } config = {};
    config.palette = 1;
    for (int t = 0; t < 8; ++t) config.bytes[t] = 64, config.rows[t] = 16;
    _tile_loadconfig(&config);
  }
  ~TileUse() { _tile_release(); }
};

template <class Done>
PF_INLINE void product_tiles(Rows rows, Columns columns, int64_t outs, int64_t width, int64_t steps, int64_t panels, Done& done) {
  alignas(64) float sums[32 * 32];
  const int64_t row_bytes = rows.stride * 4, column_bytes = columns.stride * 4;
  for (int64_t n = 0; n < width; n += 32)
    for (int64_t o = 0; o < outs; o += 32) {
      const bool both = o + 16 < outs;  // else only the upper half of the 2 x 2 block of tiles
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int64_t t = 0; t < panels; ++t)
        for (int64_t s = 0; s < steps; s += 16) {
          const word* row = rows.data + t * rows.panel + o * rows.stride + s;
          const word* column = columns.data + t * columns.panel + s * columns.stride + n;
          _tile_loadd(4, row, row_bytes);
          _tile_loadd(6, column, column_bytes);
          _tile_loadd(7, column + 16, column_bytes);
          _tile_dpbf16ps(0, 4, 6);
          _tile_dpbf16ps(1, 4, 7);
          if (both) {
            _tile_loadd(5, row + 16 * rows.stride, row_bytes);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
          }
        }
      _tile_stored(0, sums, 128);
      _tile_stored(1, sums + 16, 128);
      if (both) {
        _tile_stored(2, sums + 16 * 32, 128);
        _tile_stored(3, sums + 16 * 32 + 16, 128);
      }
      for (int64_t i = 0; i < (both ? 32 : 16); i += 4) {
        Block<4, 2> block;
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
          block.at[k][0] = load(sums + (i + k) * 32);
          block.at[k][1] = load(sums + (i + k) * 32 + 16);
        }
        done(block, o + i, n);
      }
    }
}
#else
template <bool WANTED>
struct TileUse {};
#endif

// `outs`, `width` and `steps` are padded (E::ROWS, E::COLUMNS, E::STEPS / E::PAIR).
template <class E, class Done>
PF_INLINE void product(Rows rows, Columns columns, int64_t outs, int64_t width, int64_t steps, int64_t panels, Done done) {
#if defined(__AMX_BF16__)
  if constexpr (E::TILES) return product_tiles(rows, columns, outs, width, steps, panels, done);
#endif
#if defined(__AVX512F__)
  int64_t n = 0;
  for (; n + 64 <= width; n += 64) product_slab<E, 4>(rows, columns, outs, steps, panels, n, done);
  if (n + 48 <= width) product_slab<E, 3>(rows, columns, outs, steps, panels, n, done), n += 48;
  if (n + 32 <= width) product_slab<E, 2>(rows, columns, outs, steps, panels, n, done), n += 32;
  if (n + 16 <= width) product_slab<E, 1>(rows, columns, outs, steps, panels, n, done);
#else
  for (int64_t n = 0; n < width; n += 2 * W) product_slab<E, 2>(rows, columns, outs, steps, panels, n, done);
#endif
}

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
