#include "kernels/adam.h"

#include "simd.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

PF_INLINE vf root(vf x) {
#if defined(__AVX512F__)
  return (vf)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
  return (vf)_mm256_sqrt_ps((__m256)x);
#else
  vf r;
  for (int i = 0; i < W; ++i) r[i] = sqrtf(x[i]);
  return r;
#endif
}

PF_INLINE bool any(vi mask) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
  return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#else
  int32_t lanes[W], joined = 0;
  store_i(lanes, mask);
  for (int i = 0; i < W; ++i) joined |= lanes[i];
  return joined != 0;
#endif
}

typedef uint16_t vh __attribute__((vector_size(W * 2)));

PF_INLINE vi load_count(const uint16_t* p) {
  vh v;
  __builtin_memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, vi);
}
PF_INLINE void store_count(uint16_t* p, vi x) {
  const vh v = __builtin_convertvector(x, vh);
  __builtin_memcpy(p, &v, sizeof v);
}

// One vector of entries. Returns lanes of -1 where the gradient is not usable.
PF_INLINE vi step_vector(const AdamSettings& s, float* value, float* gradient, float* first, float* second,
                         uint16_t* count) {
  const vf raw = load(gradient);
  const vf g0 = raw * splat(s.scale);
  const vi moved = raw != splat(0.f);
  // Where the square overflows the second moment would stay infinite for ever.
  const vi usable = g0 * g0 <= splat(3.4e38f);
  const vi go = moved & usable;
  if (!any(moved)) return vi{};
  const vi was = load_count(count);
  const vi now = was + (go & (was < splat_i(65535)) & splat_i(1));

  vi index = was < splat_i(s.corrections - 1) ? was : splat_i(s.corrections - 1);
  vf first_correction, second_correction;
  if (!any(index != splat_i(index[0]))) {  // most lines are touched as a whole
    first_correction = splat(s.first[index[0]]);
    second_correction = splat(s.second[index[0]]);
  } else {
    first_correction = gather(s.first, index);
    second_correction = gather(s.second, index);
  }
  const vf x = load(value), m0 = load(first), v0 = load(second);
  const vf g = fma(splat(s.decay), x, g0);
  const vf m = fma(splat(1.f - s.beta1), g - m0, m0);
  const vf v = fma(splat(s.beta2), v0, splat(1.f - s.beta2) * (g * g));
  const vf change = splat(s.rate) * first_correction * m / fma(root(v), second_correction, splat(s.eps));
  store(value, select(go, x - change, x));
  store(first, select(go, m, m0));
  store(second, select(go, v, v0));
  store_count(count, now);
  store(gradient, vf{});
  return moved & ~usable;
}

// A line, whole or the last and short: then on a copy that ends in entries without gradient.
PF_INLINE vi step_line(const AdamTensor& t, const AdamSettings& s, int64_t line) {
  const int64_t at = line * adam_line, rest = t.n - at;
  vi unusable = {};
  if (rest >= adam_line) {
    for (int64_t i = at; i < at + adam_line; i += W)
      unusable |= step_vector(s, t.value + i, t.gradient + i, t.first + i, t.second + i, t.count + i);
    return unusable;
  }
  float value[adam_line] = {}, gradient[adam_line] = {}, first[adam_line] = {}, second[adam_line] = {};
  uint16_t count[adam_line] = {};
  for (int64_t i = 0; i < rest; ++i) {
    value[i] = t.value[at + i];
    gradient[i] = t.gradient[at + i];
    first[i] = t.first[at + i];
    second[i] = t.second[at + i];
    count[i] = t.count[at + i];
  }
  for (int64_t i = 0; i < adam_line; i += W)
    unusable |= step_vector(s, value + i, gradient + i, first + i, second + i, count + i);
  for (int64_t i = 0; i < rest; ++i) {
    t.value[at + i] = value[i];
    t.gradient[at + i] = gradient[i];
    t.first[at + i] = first[i];
    t.second[at + i] = second[i];
    t.count[at + i] = count[i];
  }
  return unusable;
}

PF_INLINE void fetch(const AdamTensor& t, int64_t line) {
  const int64_t at = line * adam_line;
  __builtin_prefetch(t.value + at, 1);
  __builtin_prefetch(t.gradient + at, 1);
  __builtin_prefetch(t.first + at, 1);
  __builtin_prefetch(t.second + at, 1);
  __builtin_prefetch(t.count + at, 1);
}

bool step(const AdamTensor& t, const AdamSettings& s, int64_t begin, int64_t end) {
  vi unusable = {};
  if (t.touched == nullptr) {
    for (int64_t line = begin; line < end; ++line) unusable |= step_line(t, s, line);
    return any(unusable);
  }
  // Touched lines of a hash table lie anywhere: list some, and ask for each well before its turn.
  constexpr int64_t some = 512, ahead = 12;
  int32_t list[some];
  for (int64_t from = begin; from < end; from += some) {
    const int64_t to = end < from + some ? end : from + some;
    int32_t count = 0;
    for (int64_t line = from; line < to; ++line) {
      list[count] = (int32_t)(line - from);
      count += t.touched[line] != 0;
    }
    if (count == 0) continue;
    __builtin_memset(t.touched + from, 0, (uint64_t)(to - from));
    for (int64_t i = 0; i < ahead && i < count; ++i) fetch(t, from + list[i]);
    for (int64_t i = 0; i < count; ++i) {
      if (i + ahead < count) fetch(t, from + list[i + ahead]);
      unusable |= step_line(t, s, from + list[i]);
    }
  }
  return any(unusable);
}

}  // namespace

extern const AdamKernels adam = {step};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
