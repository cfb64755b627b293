// Turning triangles round so that neighbours agree on which side they face.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace polyfield {

// For faces [count, 3]: which of them to turn round, 0 or 1, so that two faces at an edge of just two run along it in
// opposite directions, and the piece of each that such edges connect, counted from 0. Spreads from the lowest face of
// each piece, which stays; where a piece has one side only, as a Moebius strip, some edge is left over. How many pieces.
inline int64_t orient_faces(const int64_t* faces, int64_t count, uint8_t* turned, int64_t* piece) {
  struct Side {
    int64_t low, high, face;
    bool rising;
  };
  std::vector<Side> sides(3 * count);
  for (int64_t f = 0; f < count; ++f)
    for (int k = 0; k < 3; ++k) {
      const int64_t a = faces[3 * f + k], b = faces[3 * f + (k + 1) % 3];
      sides[3 * f + k] = {std::min(a, b), std::max(a, b), f, a < b};
    }
  std::sort(sides.begin(), sides.end(), [](const Side& x, const Side& y) {
    return x.low != y.low ? x.low < y.low : x.high != y.high ? x.high < y.high : x.face < y.face;
  });
  // neighbours[3 f + k]: 2 (the face across) + (whether both run along the edge the same way), or -1.
  std::vector<int64_t> neighbours(3 * count, -1);
  std::vector<uint8_t> known(count, 0);
  for (size_t begin = 0, end; begin < sides.size(); begin = end) {
    for (end = begin + 1; end < sides.size() && sides[end].low == sides[begin].low && sides[end].high == sides[begin].high;)
      ++end;
    if (end - begin != 2) continue;
    const Side &one = sides[begin], &other = sides[begin + 1];
    const int64_t same = one.rising == other.rising;
    neighbours[3 * one.face + known[one.face]++] = 2 * other.face + same;
    neighbours[3 * other.face + known[other.face]++] = 2 * one.face + same;
  }
  std::fill(piece, piece + count, -1);
  std::vector<int64_t> waiting;
  int64_t pieces = 0;
  for (int64_t seed = 0; seed < count; ++seed) {
    if (piece[seed] >= 0) continue;
    piece[seed] = pieces, turned[seed] = 0;
    waiting.assign(1, seed);
    while (!waiting.empty()) {
      const int64_t face = waiting.back();
      waiting.pop_back();
      for (int k = 0; k < known[face]; ++k) {
        const int64_t next = neighbours[3 * face + k] >> 1;
        if (piece[next] >= 0) continue;
        piece[next] = pieces;
        turned[next] = static_cast<uint8_t>(turned[face] ^ (neighbours[3 * face + k] & 1));
        waiting.push_back(next);
      }
    }
    ++pieces;
  }
  return pieces;
}

}  // namespace polyfield
