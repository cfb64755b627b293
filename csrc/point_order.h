// Points along a curve on which neighbours are near each other (Morton 1966): what is read for one is read for the
// next.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "parallel.h"

namespace polyfield {

// The 10 bits of x with two zeros after each.
inline uint32_t spread_bits(uint32_t x) {
  x = (x | x << 16) & 0x030000ff;
  x = (x | x << 8) & 0x0300f00f;
  x = (x | x << 4) & 0x030c30c3;
  return (x | x << 2) & 0x09249249;
}

// Which of n < 2^31 points comes first, second, ... The cube of half size 2 size about `middle` is divided into
// 1024^3 cells; what lies beyond counts to its outermost cells, NaN too.
inline std::vector<int32_t> point_order(const double* points, int64_t n, const double* middle, double size) {
  std::vector<std::pair<uint32_t, int32_t>> keys(n), sorted(n);
  parallel_for(n, 4096, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      uint32_t key = 0;
      for (int a = 0; a < 3; ++a) {
        const double cell = ((points[3 * i + a] - middle[a]) / size + 2) * 256;
        const double kept = cell > 0 ? std::min(cell, 1023.0) : 0;  // NaN: 0
        key |= spread_bits(static_cast<uint32_t>(kept)) << a;
      }
      keys[i] = {key, static_cast<int32_t>(i)};
    }
  });
  constexpr uint32_t digits = 1024;
  for (int shift = 0; shift < 30; shift += 10) {  // by the lowest digit first, keeping the order of equals
    int64_t place[digits + 1] = {};
    for (const auto& [key, i] : keys) ++place[(key >> shift) % digits + 1];
    for (uint32_t d = 0; d < digits; ++d) place[d + 1] += place[d];
    for (const auto& entry : keys) sorted[place[(entry.first >> shift) % digits]++] = entry;
    std::swap(keys, sorted);
  }
  std::vector<int32_t> order(n);
  for (int64_t i = 0; i < n; ++i) order[i] = keys[i].second;
  return order;
}

}  // namespace polyfield
