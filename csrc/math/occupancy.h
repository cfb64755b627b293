// Random looks at cells: numbers by counter, so that each is the same whoever computes it.
#pragma once

#include <cstdint>

#include "hd.h"

namespace polyfield {

// The n-th number of stream `seed`. See: Steele, Lea and Flood (2014), "Fast splittable pseudorandom number
// generators", and the constants of its MurmurHash3 variant 13.
POLYFIELD_HD static inline uint64_t random_bits(uint64_t seed, uint64_t n) {
  uint64_t x = seed + (n + 1) * 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// Uniform in [0, total), total < 2^32.
POLYFIELD_HD static inline int64_t random_below(uint64_t bits, int64_t total) {
  return (int64_t)(((bits >> 32) * (uint64_t)total) >> 32);
}

// Uniform in [0, 27), from bits that `random_below` leaves.
POLYFIELD_HD static inline int64_t random_neighbour(uint64_t bits) {
  return (int64_t)(((bits & 0xFFFFFFFFull) * 27) >> 32);
}

// The a-th of three numbers in [0, 1), 21 bits each.
POLYFIELD_HD static inline float random_place(uint64_t bits, int a) {
  return (float)((bits >> (21 * a)) & 0x1FFFFF) * 0x1p-21f;
}

}  // namespace polyfield
