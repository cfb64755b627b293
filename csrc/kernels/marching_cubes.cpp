#include "kernels/marching_cubes.h"

#include "simd.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

constexpr float nearest = 1.f / 1024;  // of a vertex to the end of its edge: none coincide, no triangle is a point

PF_INLINE int64_t words_of(int64_t points) { return (points + 63) / 64; }

// Bits of the points of word w that have a next one in the row.
PF_INLINE uint64_t with_next(int64_t points, int64_t w) {
  const int64_t left = points - 1 - 64 * w;
  return left >= 64 ? ~uint64_t(0) : (uint64_t(1) << left) - 1;
}

// The bits of the points one further along the row.
PF_INLINE uint64_t next_of(const uint64_t* row, int64_t words, int64_t w) {
  return row[w] >> 1 | (w + 1 < words ? row[w + 1] << 63 : 0);
}

PF_INLINE int32_t count(uint64_t bits) { return (int32_t)__builtin_popcountll(bits); }

// Where a line from one value to the other meets the level, between 0 and 1.
PF_INLINE float meets(float one, float other, float level) {
  const float part = (one - level) / (one - other);
  const float most = 1.f - nearest, capped = part < most ? part : most;
  return capped > nearest ? capped : nearest;
}

bool classify(const float* values, int64_t points, float level, bool below, uint64_t* inside) {
  const vf limit = splat(level), zero = {};
  vi strange = {};
  for (int64_t begin = 0; begin < points; begin += 64) {
    const int64_t end = begin + 64 < points ? begin + 64 : points;
    uint64_t word = 0;
    for (int64_t k = begin; k < end; k += W) {
      const int lanes = end - k < W ? (int)(end - k) : W;
      const vf v = lanes == W ? load(values + k) : load_part(values + k, lanes);
      strange |= v * zero != zero;
      uint64_t bits = bits_of(below ? v < limit : v > limit);
      if (lanes < W) bits &= (uint64_t(1) << lanes) - 1;
      word |= bits << (k - begin);
    }
    inside[begin / 64] = word;
  }
  return bits_of(strange) == 0;
}

int64_t crossings_along(const uint64_t* row, int64_t points) {
  const int64_t words = words_of(points);
  int64_t sum = 0;
  for (int64_t w = 0; w < words; ++w) sum += count((row[w] ^ next_of(row, words, w)) & with_next(points, w));
  return sum;
}

int64_t crossings_between(const uint64_t* row, const uint64_t* other, int64_t words) {
  int64_t sum = 0;
  for (int64_t w = 0; w < words; ++w) sum += count(row[w] ^ other[w]);
  return sum;
}

void vertices_along(const uint64_t* row, const float* values, int64_t points, float level, const float* place,
                    float* out) {
  const int64_t words = words_of(points);
  for (int64_t w = 0; w < words; ++w)
    for (uint64_t bits = (row[w] ^ next_of(row, words, w)) & with_next(points, w); bits; bits &= bits - 1) {
      const int64_t k = 64 * w + __builtin_ctzll(bits);
      out[0] = place[0];
      out[1] = place[1];
      out[2] = (float)k + meets(values[k], values[k + 1], level);
      out += 3;
    }
}

void vertices_between(const uint64_t* row, const uint64_t* other, const float* values, const float* beyond,
                      int64_t points, float level, const float* place, int axis, float* out) {
  const int64_t words = words_of(points);
  for (int64_t w = 0; w < words; ++w)
    for (uint64_t bits = row[w] ^ other[w]; bits; bits &= bits - 1) {
      const int64_t k = 64 * w + __builtin_ctzll(bits);
      out[0] = place[0];
      out[1] = place[1];
      out[2] = (float)k;
      out[axis] += meets(values[k], beyond[k], level);
      out += 3;
    }
}

int64_t triangles(const CellTable& table, const CellRow& row, int32_t* out, IrregularCell* listed,
                  int64_t* listed_count) {
  const int64_t words = words_of(row.points);
  int32_t along_k[4], along_j[2], along_i[2];
  for (int m = 0; m < 4; ++m) along_k[m] = row.along_k[m];
  for (int m = 0; m < 2; ++m) {
    along_j[m] = row.along_j[m];
    along_i[m] = row.along_i[m];
  }
  int64_t made = 0;
  for (int64_t w = 0; w < words; ++w) {
    uint64_t here[4], next[4], any = 0, all = ~uint64_t(0);
    for (int m = 0; m < 4; ++m) {
      here[m] = row.inside[m][w];
      next[m] = next_of(row.inside[m], words, w);
      any |= here[m] | next[m];
      all &= here[m] & next[m];
    }
    const uint64_t cells = with_next(row.points, w);
    const uint64_t on_k[4] = {(here[0] ^ next[0]) & cells, (here[1] ^ next[1]) & cells, (here[2] ^ next[2]) & cells,
                              (here[3] ^ next[3]) & cells};
    const uint64_t on_j[2] = {here[0] ^ here[1], here[2] ^ here[3]}, on_i[2] = {here[0] ^ here[2], here[1] ^ here[3]};
    for (uint64_t bits = any & ~all & cells; bits; bits &= bits - 1) {
      const int b = __builtin_ctzll(bits);
      const uint64_t before = (uint64_t(1) << b) - 1;
      unsigned code = 0;
      int32_t vertices[12];
      for (int m = 0; m < 4; ++m) {
        code |= (unsigned)((here[m] >> b & 1) | (next[m] >> b & 1) << 1) << 2 * m;
        vertices[m] = along_k[m] + count(on_k[m] & before);
      }
      for (int m = 0; m < 2; ++m) {
        const int32_t j = along_j[m] + count(on_j[m] & before), i = along_i[m] + count(on_i[m] & before);
        vertices[4 + 2 * m] = j;
        vertices[5 + 2 * m] = j + (int32_t)(on_j[m] >> b & 1);
        vertices[8 + 2 * m] = i;
        vertices[9 + 2 * m] = i + (int32_t)(on_i[m] >> b & 1);
      }
      const int known = table.count[code];
      if (known == irregular_cell) {
        IrregularCell& cell = listed[(*listed_count)++];
        cell.k = (int32_t)(64 * w + b);
        for (int e = 0; e < 12; ++e) cell.vertices[e] = vertices[e];
        continue;
      }
      const uint8_t* edges = table.edges[code];
      for (int e = 0; e < 3 * known; ++e) out[3 * made + e] = vertices[edges[e]];
      made += known;
    }
    for (int m = 0; m < 4; ++m) along_k[m] += count(on_k[m]);
    for (int m = 0; m < 2; ++m) {
      along_j[m] += count(on_j[m]);
      along_i[m] += count(on_i[m]);
    }
  }
  return made;
}

}  // namespace

extern const MarchingCubesKernels marching_cubes = {classify,       crossings_along,  crossings_between,
                                                    vertices_along, vertices_between, triangles};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
