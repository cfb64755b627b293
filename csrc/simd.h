// Vectors of floats and 32-bit integers, as wide as the instruction set, by the compiler's vector types:
// + - * / & | ^ << >> and comparisons (lanes of 0 / -1) work on them as written.
//
// Included by kernel files only, inside no namespace; everything lands in polyfield::POLYFIELD_ISA, static, so that
// no two instruction sets share a function.
#pragma once

#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace polyfield {
namespace POLYFIELD_ISA {

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float vf __attribute__((vector_size(W * 4)));
typedef int32_t vi __attribute__((vector_size(W * 4)));
typedef uint32_t vu __attribute__((vector_size(W * 4)));

#define PF_INLINE static inline __attribute__((always_inline, unused))

PF_INLINE vf splat(float x) { return x - vf{}; }
PF_INLINE vi splat_i(int32_t x) { return x - vi{}; }
PF_INLINE vu splat_u(uint32_t x) { return x - vu{}; }

PF_INLINE vf load(const float* p) { vf v; __builtin_memcpy(&v, p, sizeof v); return v; }
PF_INLINE void store(float* p, vf v) { __builtin_memcpy(p, &v, sizeof v); }
PF_INLINE vi load_i(const int32_t* p) { vi v; __builtin_memcpy(&v, p, sizeof v); return v; }
PF_INLINE void store_i(int32_t* p, vi v) { __builtin_memcpy(p, &v, sizeof v); }

// The first n lanes (0 <= n <= W); the others are zero / left alone.
PF_INLINE vf load_part(const float* p, int n) { vf v = {}; __builtin_memcpy(&v, p, n * sizeof(float)); return v; }
#if defined(__AVX512F__)
PF_INLINE void store_part(float* p, vf v, int n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), (__m512)v); }
#else
PF_INLINE void store_part(float* p, vf v, int n) { __builtin_memcpy(p, &v, n * sizeof(float)); }
#endif

// a * b + c with one rounding where the hardware has it.
PF_INLINE vf fma(vf a, vf b, vf c) {
#if defined(__AVX512F__)
  return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

PF_INLINE float fma(float a, float b, float c) {
#if defined(__FMA__)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

// Lanes of `yes` where the mask is -1, of `no` where it is 0.
PF_INLINE vf select(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }
PF_INLINE vi select_i(vi mask, vi yes, vi no) { return (mask & yes) | (~mask & no); }

// The second argument where one is NaN.
#if defined(__AVX512F__)
PF_INLINE vf max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
PF_INLINE vf min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
#elif defined(__AVX2__)
PF_INLINE vf max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
PF_INLINE vf min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
#else
PF_INLINE vf max(vf a, vf b) { return select(a > b, a, b); }
PF_INLINE vf min(vf a, vf b) { return select(a < b, a, b); }
#endif

// Bit i is set where lane i of the mask is -1.
PF_INLINE uint32_t bits_of(vi mask) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask((__m512i)mask);
#elif defined(__AVX2__)
  return (uint32_t)_mm256_movemask_ps((__m256)mask);
#else
  uint32_t bits = 0;
  for (int i = 0; i < W; ++i) bits |= (uint32_t)(mask[i] & 1) << i;
  return bits;
#endif
}

PF_INLINE vi to_int(vf x) { return __builtin_convertvector(x, vi); }  // towards zero
PF_INLINE vf to_float(vi x) { return __builtin_convertvector(x, vf); }
PF_INLINE vf floor(vf x) {
#if defined(__AVX512F__)
  return (vf)_mm512_roundscale_ps((__m512)x, 0x09);
#elif defined(__AVX2__)
  return (vf)_mm256_floor_ps((__m256)x);
#else
  const vf t = to_float(to_int(x));  // |x| < 2^31
  return t - select(t > x, splat(1.f), splat(0.f));
#endif
}

PF_INLINE vf gather(const float* base, vi index) {
#if defined(__AVX512F__)
  return (vf)_mm512_i32gather_ps((__m512i)index, base, 4);
#elif defined(__AVX2__)
  return (vf)_mm256_i32gather_ps(base, (__m256i)index, 4);
#else
  vf v;
  for (int i = 0; i < W; ++i) v[i] = base[index[i]];
  return v;
#endif
}

PF_INLINE vi gather_i(const int32_t* base, vi index) { return (vi)gather((const float*)(const void*)base, index); }

PF_INLINE float sum(vf v) {  // a fixed tree, so the same bits for the same W
  float lane[W];
  store(lane, v);
  for (int half = W / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
}

// e^x to 2 ulp for x in [-87, 88]; below 0, above e^88; NaN stays NaN.
PF_INLINE vf exp(vf x) {
  const vf clamped = min(max(x, splat(-87.f)), splat(88.f));
  const vf n = floor(fma(clamped, splat(1.44269504088896341f), splat(0.5f)));
  vf r = fma(n, splat(-0.693359375f), clamped);  // ln 2 in two parts (Cody and Waite)
  r = fma(n, splat(2.12194440e-4f), r);
  vf p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  p = fma(p, r * r, r + splat(1.f));
  const vf e = p * (vf)((to_int(n) + 127) << 23);
  return select(x == x, select(x < splat(-87.f), splat(0.f), e), x);
}

// ln x to 2e-7 of the larger of 1 and |ln x|, for finite x > 0 that are not subnormal; elsewhere anything.
PF_INLINE vf log(vf x) {
  // x = 2^e m with m in [sqrt(1/2), sqrt(2)): the bits of sqrt(1/2) taken off, the exponent counts from there.
  const vi bits = (vi)x - 0x3f3504f3;
  const vf e = to_float(bits >> 23), m = (vf)((bits & 0x007fffff) + 0x3f3504f3);
  // ln m = 2 artanh s, s = (m - 1) / (m + 1) in [-0.172, 0.172]: the series to s^9 leaves 4e-9.
  const vf s = (m - 1.f) / (m + 1.f), z = s * s;
  vf p = fma(z, splat(2.f / 9.f), splat(2.f / 7.f));
  p = fma(p, z, splat(2.f / 5.f));
  p = fma(p, z, splat(2.f / 3.f));
  p = fma(p, z, splat(2.f));
  return fma(e, splat(0.693147180559945f), s * p);
}

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
