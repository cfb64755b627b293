#include "kernels/occupancy.h"

#include "math/occupancy.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

void pick(uint64_t seed, const int64_t* list, int64_t total, int64_t begin, int64_t end, int64_t* ids) {
  for (int64_t i = begin; i < end; ++i) ids[i] = random_below(random_bits(seed, 2 * (uint64_t)i), total);
  if (list != nullptr)
    for (int64_t i = begin; i < end; ++i) ids[i] = list[ids[i]];
}

void pick_near(uint64_t seed, const int64_t* list, int64_t total, const float* values, int64_t resolution,
               int64_t begin, int64_t end, int64_t* ids) {
  const int shift = __builtin_ctzll((uint64_t)resolution);
  for (int64_t i = begin; i < end; ++i) {
    const uint64_t bits = random_bits(seed, 2 * (uint64_t)i);
    const int64_t drawn = list[random_below(bits, total)];
    int64_t around = random_neighbour(bits), near = drawn;
    bool inside = true;
    for (int a = 0; a < 3; ++a) {
      const int64_t by = around % 3 - 1, place = (drawn >> (shift * a) & (resolution - 1)) + by;
      inside &= 0 <= place && place < resolution;
      near += by * (int64_t{1} << (shift * a));
      around /= 3;
    }
    ids[i] = inside && values[near] >= 0.f ? near : drawn;
  }
}

void points(const CellGrid& grid, uint64_t seed, const int64_t* ids, int64_t begin, int64_t end, float* points) {
  const int64_t n = grid.resolution;
  const int shift = __builtin_ctzll((uint64_t)n);
  const float size = 2.f / (float)n;
  for (int64_t i = begin; i < end; ++i) {
    const uint64_t bits = random_bits(seed, 2 * (uint64_t)i + 1);
    const float scale = (float)(1 << (ids[i] >> (3 * shift)));
    for (int a = 0; a < 3; ++a) {
      const float cell = (float)((ids[i] >> (shift * (2 - a))) & (n - 1));
      const float q = (cell + random_place(bits, a)) * size - 1.f;
      points[3 * i + a] = grid.center[a] + q * (grid.half_size[a] * scale);
    }
  }
}

int64_t mark(const float* values, float threshold, bool from_equal, int64_t begin, int64_t end, uint8_t* occupied) {
  int64_t count = 0;
  for (int64_t from = begin; from < end; from += 4096) {
    const int64_t to = end < from + 4096 ? end : from + 4096;
    int32_t some = 0;
    if (from_equal)
      for (int64_t i = from; i < to; ++i) occupied[i] = values[i] >= threshold;
    else
      for (int64_t i = from; i < to; ++i) occupied[i] = values[i] > threshold;
    for (int64_t i = from; i < to; ++i) some += occupied[i];
    count += some;
  }
  return count;
}

void sum_seen(const float* values, int64_t begin, int64_t end, double* sum, double* count) {
  constexpr int lanes = 16;
  double total = 0., seen = 0.;
  // Sums of 64 in single precision, then double: exact enough and as wide as the registers.
  for (int64_t from = begin; from < end; from += 64 * lanes) {
    const int64_t to = end < from + 64 * lanes ? end : from + 64 * lanes;
    float some[lanes] = {}, here[lanes] = {};
    int64_t i = from;
    for (; i + lanes <= to; i += lanes)
      for (int j = 0; j < lanes; ++j) {
        const float v = values[i + j];
        const bool counted = v >= 0.f && v < 3.4e38f;
        some[j] += counted ? v : 0.f;
        here[j] += counted ? 1.f : 0.f;
      }
    for (; i < to; ++i) {
      const bool counted = values[i] >= 0.f && values[i] < 3.4e38f;
      some[0] += counted ? values[i] : 0.f;
      here[0] += counted ? 1.f : 0.f;
    }
    for (int j = 0; j < lanes; ++j) {
      total += some[j];
      seen += here[j];
    }
  }
  *sum = total;
  *count = seen;
}

constexpr int64_t most = 256;      // cells of a row
constexpr uint8_t farthest = 120;  // plus the longest stride below, 128, still fits a byte

static inline uint8_t smaller(uint8_t a, uint8_t b) { return a < b ? a : b; }

// Rows are worked on in blocks of B cells, a compile-time number, so that no loop has a tail.
template <int B>
struct Rows {
  // out[z] = min(a[z], b[z] + step)
  static inline void lower(const uint8_t* a, const uint8_t* b, uint8_t step, int64_t n, uint8_t* out) {
    for (int64_t block = 0; block < n; block += B) {
      uint8_t result[B];
      for (int j = 0; j < B; ++j) result[j] = smaller(a[block + j], (uint8_t)(b[block + j] + step));
      __builtin_memcpy(out + block, result, B);
    }
  }

  // Chebyshev distance by two sweeps: a cell is one further than its nearest neighbour, of 13 before it, then of 13
  // after it. Beyond the grid nothing counts: jumps end at the level's box anyway.
  static void sweep(int64_t n, int64_t back, uint8_t* distance) {
    // Rows in the middle of cells that are far from everything.
    uint8_t one[3 * most], other[3 * most];
    __builtin_memset(one, farthest, sizeof one);
    __builtin_memset(other, farthest, sizeof other);
    for (int64_t xi = 0; xi < n; ++xi) {
      const int64_t x = back < 0 ? xi : n - 1 - xi;
      for (int64_t yi = 0; yi < n; ++yi) {
        const int64_t y = back < 0 ? yi : n - 1 - yi;
        uint8_t *here = distance + (x * n + y) * n, *from = one + most, *to = other + most;
        __builtin_memset(from, farthest, (uint64_t)n);
        for (int k = 0; k < 4; ++k) {
          const int64_t ox = k < 3 ? x + back : x, oy = k < 3 ? y + k - 1 : y + back;
          if (ox >= 0 && ox < n && oy >= 0 && oy < n) lower(from, distance + (ox * n + oy) * n, 0, n, from);
        }
        lower(from, from - 1, 0, n, to);
        lower(to, from + 1, 0, n, to);
        lower(here, to, 1, n, from);
        // Along the row, by doubling strides: log2(n) passes instead of n dependent steps.
        for (int64_t stride = 1; stride < n; stride *= 2) {
          lower(from, from + back * stride, (uint8_t)stride, n, to);
          uint8_t* swapped = from;
          from = to;
          to = swapped;
        }
        __builtin_memcpy(here, from, (uint64_t)n);
      }
    }
  }
};

void distances(const uint8_t* obstacles, int64_t resolution, uint8_t* distance) {
  const int64_t n = resolution;
  for (int64_t i = 0; i < n * n * n; ++i) distance[i] = obstacles[i] ? 0 : farthest;
  for (int64_t back = -1; back <= 1; back += 2)
    if (n % 64 == 0)
      Rows<64>::sweep(n, back, distance);
    else
      Rows<4>::sweep(n, back, distance);
}

}  // namespace

extern const OccupancyKernels occupancy = {pick, pick_near, points, mark, sum_seen, distances};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
