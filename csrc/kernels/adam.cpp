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
  uint32_t lanes = bits_of(moved);
  if (lanes == 0) return vi{};
  const vi was = load_count(count);
  const vi now = was + (go & (was < splat_i(65535)) & splat_i(1));

  // Most lines have one count, or one for each of a few rows: to look these up in turn is faster than to gather.
  vf first_correction = {}, second_correction = {};
  do {
    const int32_t its = count[__builtin_ctz(lanes)];
    const vi same = was == splat_i(its);
    const int32_t index = its < s.corrections - 1 ? its : s.corrections - 1;
    first_correction = select(same, splat(s.first[index]), first_correction);
    second_correction = select(same, splat(s.second[index]), second_correction);
    lanes &= ~bits_of(same);
  } while (lanes != 0);
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

PF_INLINE vi step_line(const AdamTensor& t, const AdamSettings& s, int64_t line) {
  const int64_t at = line * adam_line;
  vi unusable = {};
  for (int64_t i = at; i < at + adam_line; i += W)
    unusable |= step_vector(s, t.value + i, t.gradient + i, t.first + i, t.second + i, t.count + i);
  return unusable;
}

// The last line of a tensor, if it is short: on a copy that ends in entries without gradient.
vi step_short_line(const AdamTensor& t, const AdamSettings& s, int64_t line) {
  const int64_t at = line * adam_line, rest = t.n - at;
  float value[adam_line] = {}, gradient[adam_line] = {}, first[adam_line] = {}, second[adam_line] = {};
  uint16_t count[adam_line] = {};
  for (int64_t i = 0; i < rest; ++i) {
    value[i] = t.value[at + i];
    gradient[i] = t.gradient[at + i];
    first[i] = t.first[at + i];
    second[i] = t.second[at + i];
    count[i] = t.count[at + i];
  }
  const vi unusable = step_line({value, gradient, first, second, count, nullptr, adam_line}, s, 0);
  for (int64_t i = 0; i < rest; ++i) {
    t.value[at + i] = value[i];
    t.gradient[at + i] = gradient[i];
    t.first[at + i] = first[i];
    t.second[at + i] = second[i];
    t.count[at + i] = count[i];
  }
  return unusable;
}

// Lines [begin, end), all of them whole. Tensor and settings by value: what is stored cannot change them, so that they
// stay in registers.
vi step_touched(AdamTensor t, AdamSettings s, int64_t begin, int64_t end) {
  // Touched lines of a hash table lie anywhere: list some, and ask well before its turn for what each waits for first.
  // (To ask for the rest, too, gains nothing: a step is then bound by how many lines memory delivers.)
  constexpr int64_t some = 512, ahead = 12;
  vi unusable = {};
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
    for (int64_t i = 0; i < count; ++i) {
      if (i + ahead < count) {
        const int64_t at = (from + list[i + ahead]) * adam_line;
        __builtin_prefetch(t.gradient + at, 1);
        __builtin_prefetch(t.count + at, 1);
      }
      unusable |= step_line(t, s, from + list[i]);
    }
  }
  return unusable;
}

vi step_all(AdamTensor t, AdamSettings s, int64_t begin, int64_t end) {
  vi unusable = {};
  for (int64_t line = begin; line < end; ++line) unusable |= step_line(t, s, line);
  return unusable;
}

bool step(const AdamTensor& t, const AdamSettings& s, int64_t begin, int64_t end) {
  const int64_t whole = t.n / adam_line, last = end < whole ? end : whole;
  vi unusable = t.touched == nullptr ? step_all(t, s, begin, last) : step_touched(t, s, begin, last);
  if (end > whole && (t.touched == nullptr || t.touched[whole])) {
    unusable |= step_short_line(t, s, whole);
    if (t.touched != nullptr) t.touched[whole] = 0;
  }
  return bits_of(unusable) != 0;
}

}  // namespace

extern const AdamKernels adam = {step};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
