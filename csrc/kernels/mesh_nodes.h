// What the kernels that walk the tree of kernels/mesh_distance.h share. Include it once, after the kernel's own header.
#pragma once

#include <cstdint>

#include "kernels/mesh_distance.h"
#include "simd.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

struct Vec {
  vf x, y, z;
};

PF_INLINE Vec load3(const float* rows) { return {load(rows), load(rows + W), load(rows + 2 * W)}; }
PF_INLINE Vec operator-(Vec a, Vec b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
PF_INLINE Vec operator+(Vec a, Vec b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
PF_INLINE Vec cross(Vec a, Vec b) {
  return {fma(a.y, b.z, -a.z * b.y), fma(a.z, b.x, -a.x * b.z), fma(a.x, b.y, -a.y * b.x)};
}
PF_INLINE vf dot(Vec a, Vec b) { return fma(a.x, b.x, fma(a.y, b.y, a.z * b.z)); }

// A node and its level, -1 for a leaf, in one number.
PF_INLINE int64_t named(int level, int64_t index) { return index * 32 + level + 1; }
PF_INLINE int level_of(int64_t name) { return (int)(name & 31) - 1; }
PF_INLINE int64_t index_of(int64_t name) { return name >> 5; }

// Nodes that are still to be looked at. A tree of 2^31 triangles has at most 16 levels of at most W - 1 that wait.
struct Waiting {
  static constexpr int most = 16 * 16;
  float reach[most];  // how far away they begin
  int64_t names[most];
  int count;

  inline void begin(const MeshTreeView& tree) {
    reach[0] = 0.f;
    names[0] = named(tree.levels - 1, 0);
    count = 1;
  }

  // Adds those of a node's W children, the first of which is given, that `bits` says; the nearest on top.
  inline void add(vf reaches, uint32_t bits, int level, int64_t first) {
    float lane[W];
    store(lane, reaches);
    const int bottom = count;
    for (; bits != 0; bits &= bits - 1) {
      const int i = __builtin_ctz(bits);
      int place = count++;
      for (; place > bottom && reach[place - 1] < lane[i]; --place) {
        reach[place] = reach[place - 1];
        names[place] = names[place - 1];
      }
      reach[place] = lane[i];
      names[place] = named(level, first + i);
    }
  }
};

PF_INLINE double dot(const double* a, const double* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }
PF_INLINE double unit_part(double t) { return t < 0 ? 0 : t > 1 ? 1 : t; }

}  // namespace
}  // namespace POLYFIELD_ISA
}  // namespace polyfield
