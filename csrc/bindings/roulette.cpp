#include "kernels/roulette.h"

#include <algorithm>
#include <cmath>

#include "bindings/module.h"

namespace polyfield {
namespace {

constexpr double tolerance = 0.005;  // of the target

// 2^x, for |x| up to 180.
RouletteRate power_of_two(double x) {
  const double unit = x > 90. ? 90. : x < -90. ? -90. : 0.;
  return {static_cast<float>(std::exp2(x - unit)), static_cast<float>(std::exp2(unit))};
}

// Newton's method on a function that rises and is linear in pieces: a few rounds, where no few items outweigh all
// others. Returns whether it came within the tolerance.
bool step_towards(const float* importance, int64_t n, double target, float floor, RouletteRate& found) {
  double sizes = 0., expected = 0., slope = 0.;
  roulette().expect(importance, n, {0.f, 1.f}, floor, &sizes, &expected, &slope);
  if (!(sizes > 0.)) return true;  // nothing to choose from
  double rate = target / sizes;
  for (int round = 0; round < 9; ++round) {
    found.factor = static_cast<float>(std::min(rate, 3e38));
    roulette().expect(importance, n, found, floor, &sizes, &expected, &slope);
    const double error = target - expected;
    if (std::fabs(error) <= tolerance * target) return true;
    if (!(slope > 0.)) return false;
    rate = std::max(rate + error / slope, 0.25 * rate);
  }
  return false;
}

// Halving the logarithm, from where no chance exceeds the floor to where every item is certain.
RouletteRate narrow_down(const float* importance, int64_t n, double target, float floor) {
  double low = -180., high = 151., sizes = 0., expected = 0., slope = 0.;
  const auto missing = [&](double x) {
    roulette().expect(importance, n, power_of_two(x), floor, &sizes, &expected, &slope);
    return target - expected;
  };
  if (missing(low) <= 0.) return power_of_two(low);
  if (missing(high) >= 0.) return power_of_two(high);
  double middle = 0.;
  for (int round = 0; round < 20; ++round) {
    middle = 0.5 * (low + high);
    const double error = missing(middle);
    if (std::fabs(error) <= tolerance * target) break;
    (error > 0. ? low : high) = middle;
  }
  return power_of_two(middle);
}

// The rate at which the expected number kept is the target, within half a percent or as near as it gets.
RouletteRate rate_for(const float* importance, int64_t n, double target, float floor) {
  RouletteRate rate = {0.f, 1.f};
  return step_towards(importance, n, target, floor, rate) ? rate : narrow_down(importance, n, target, floor);
}

int64_t select(Address importance, int64_t n, double target, double floor, double offset, Address indices,
               Address weights) {
  const RouletteRate rate = rate_for(at<const float>(importance), n, target, static_cast<float>(floor));
  return roulette().draw(at<const float>(importance), n, rate, static_cast<float>(floor),
                         static_cast<uint32_t>(offset * 0x1p31), at<int64_t>(indices), at<float>(weights));
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(roulette) { m.def("roulette", &select, unlocked()); }
