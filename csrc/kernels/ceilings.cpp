#include "ceilings.h"

#include "parallel.h"
#include "simd.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

thread_local volatile float sink;  // so that no work can be left out

// Twelve independent sums: two multiply-adds a cycle of four to six cycles' latency need no more.
template <class Step>
double multiply(int64_t rounds, double flops_a_step, Step step) {
  const int threads = thread_count();
  parallel_for(threads, 1, [&](int64_t, int64_t, int) {
    vf sums[12];
    for (int i = 0; i < 12; ++i) sums[i] = splat(1e-3f * i);
    vf a = splat(sink), b = splat(1e-6f);
    for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
      for (int i = 0; i < 12; ++i) sums[i] = step(a, b, sums[i]);
    }
    float total = 0.f;
    for (int i = 0; i < 12; ++i) total += sum(sums[i]);
    sink = total * 0.f;
  });
  return flops_a_step * 12. * static_cast<double>(rounds) * threads;
}

double multiply_fp32(int64_t rounds) {
  return multiply(rounds, 2. * W, [](vf a, vf b, vf c) __attribute__((always_inline)) { return fma(a, b, c); });
}

#if defined(__AMX_BF16__)
double multiply_bf16(int64_t rounds) {
  const int threads = thread_count();
  parallel_for(threads, 1, [&](int64_t, int64_t, int) {
    struct alignas(64) {
      uint8_t palette, start_row, reserved[14];
      uint16_t bytes[16];
      uint8_t rows[16];
    } config = {};
    config.palette = 1;
    for (int t = 0; t < 8; ++t) config.bytes[t] = 64, config.rows[t] = 16;
    _tile_loadconfig(&config);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (int64_t r = 0; r < rounds; ++r) {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
  });
  return 4. * 16 * 16 * 32 * 2 * static_cast<double>(rounds) * threads;
}
#elif defined(__AVX512BF16__)
double multiply_bf16(int64_t rounds) {
  return multiply(rounds, 4. * W, [](vf a, vf b, vf c) __attribute__((always_inline)) {
    return (vf)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
  });
}
#else
double multiply_bf16(int64_t rounds) { return multiply_fp32(rounds); }
#endif

uint64_t gather(const uint64_t* table, const int32_t* indices, int64_t count) {
  const int64_t grain = 4096;
  volatile uint64_t total = 0;
  parallel_for(count, grain, [&](int64_t begin, int64_t end, int thread) {
    uint64_t sums[8] = {};
    int64_t i = begin;
    for (; i + 8 <= end; i += 8)
#pragma GCC unroll 8
      for (int k = 0; k < 8; ++k) sums[k] += table[indices[i + k]];
    for (; i < end; ++i) sums[0] += table[indices[i]];
    for (int k = 1; k < 8; ++k) sums[0] += sums[k];
    if (thread == 0)
      total = sums[0];
    else
      sink = static_cast<float>(sums[0] & 1) * 0.f;
  });
  return total;
}

void copy(float* to, const float* from, int64_t count) {
  parallel_for(count, 4096, [&](int64_t begin, int64_t end, int) {
    __builtin_memcpy(to + begin, from + begin, (end - begin) * sizeof(float));
  });
}

}  // namespace

extern const CeilingsKernels ceilings = {multiply_fp32, multiply_bf16, gather, copy};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
