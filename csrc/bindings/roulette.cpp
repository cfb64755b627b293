#include "kernels/roulette.h"

#include <algorithm>
#include <cmath>

#include "bindings/module.h"

namespace polyfield {
namespace {

// The rate for which the expected number kept is the target, within half a percent: Newton's method on a function that
// rises and is linear in pieces.
float rate_for(const float* importance, int64_t n, double target, float floor) {
  double sizes = 0., expected = 0., slope = 0.;
  roulette().expect(importance, n, 0.f, floor, &sizes, &expected, &slope);
  if (!(sizes > 0.)) return 0.f;
  double rate = target / sizes;
  for (int round = 0; round < 8; ++round) {
    roulette().expect(importance, n, static_cast<float>(rate), floor, &sizes, &expected, &slope);
    const double error = target - expected;
    if (std::fabs(error) <= 0.005 * target || !(slope > 0.)) break;
    rate = std::max(rate + error / slope, 0.25 * rate);
  }
  return static_cast<float>(std::min(rate, 3e38));
}

int64_t select(Address importance, int64_t n, double target, double floor, double offset, Address indices,
               Address weights) {
  const float rate = rate_for(at<const float>(importance), n, target, static_cast<float>(floor));
  return roulette().draw(at<const float>(importance), n, rate, static_cast<float>(floor),
                         static_cast<uint32_t>(offset * 0x1p31), at<int64_t>(indices), at<float>(weights));
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(roulette) { m.def("roulette", &select, unlocked()); }
