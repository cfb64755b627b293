#include "kernels/roulette.h"

#include "simd.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

constexpr int64_t tile = 1024;  // items whose sums are kept in single precision; a multiple of every W

// Where n items end within a vector at i: the others read as 0.
PF_INLINE vf items(const float* p, int64_t left) { return left >= W ? load(p) : load_part(p, (int)left); }
PF_INLINE vf size_of(vf x) { return (vf)((vi)x & splat_i(0x7fffffff)); }

void expect(const float* importance, int64_t n, RouletteRate rate, float floor, double* sizes, double* expected,
            double* slope) {
  double all_sizes = 0., all_expected = 0., all_slope = 0.;
  const vf one = splat(1.f), zero = splat(0.f);
  for (int64_t from = 0; from < n; from += tile) {
    const int64_t to = n - from < tile ? n : from + tile;
    vf size_sum = zero, expected_sum = zero, slope_sum = zero;
    for (int64_t i = from; i < to; i += W) {
      const vf size = size_of(items(importance + i, to - i));
      const vi finite = size <= splat(3.4e38f);
      const vf scaled = splat(rate.unit) * size, p = splat(rate.factor) * scaled;
      const vf chance = select(finite, min(max(p, splat(floor)), one), one);
      size_sum += select(finite, scaled, zero);
      expected_sum += select(size == zero, zero, chance);
      slope_sum += select(finite & (p > splat(floor)) & (p < one), scaled, zero);
    }
    all_sizes += sum(size_sum);
    all_expected += sum(expected_sum);
    all_slope += sum(slope_sum);
  }
  *sizes = all_sizes;
  *expected = all_expected;
  *slope = all_slope;
}

// min(1, max(floor, rate * |importance|)) times 2^31, at least 1; 0 for an importance of 0, and the whole for one that
// is not finite.
PF_INLINE vi chances_of(vf importance, RouletteRate rate, float floor) {
  const vf size = size_of(importance), raised = max(splat(rate.factor) * (splat(rate.unit) * size), splat(floor));
  const vi sure = ~((raised < splat(1.f)) & (size <= splat(3.4e38f)));
  const vi scaled = to_int(raised * splat(0x1p31f)), some = scaled - (scaled == 0);
  return ~(size == splat(0.f)) & ((sure & splat_i(INT32_MIN)) | (~sure & some));
}

int64_t draw(const float* importance, int64_t n, RouletteRate rate, float floor, uint32_t offset, int64_t* indices,
             float* weights) {
  int32_t chances[tile];
  uint32_t sum = offset;
  int64_t kept = 0;
  for (int64_t from = 0; from < n; from += tile) {
    const int64_t count = n - from < tile ? n - from : tile;
    for (int64_t i = 0; i < count; i += W)
      store_i(chances + i, chances_of(items(importance + from + i, count - i), rate, floor));
    // Without a branch, which nobody could predict: the last entry written is overwritten until it is kept.
    for (int64_t i = 0; i < count; ++i) {
      sum += (uint32_t)chances[i];  // below 2^32: both terms are at most 2^31, the first less
      indices[kept] = from + i;
      weights[kept] = (float)(uint32_t)chances[i];
      kept += sum >> 31;
      sum &= 0x7fffffffu;
    }
  }
  for (int64_t i = 0; i < kept; ++i) weights[i] = 0x1p31f / weights[i];
  return kept;
}

}  // namespace

extern const RouletteKernels roulette = {expect, draw};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
