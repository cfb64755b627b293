// Marching cubes over an array that comes slab by slab: the surface between the values above a level and those below.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/marching_cubes.h"

namespace polyfield {

// Vertices lie in units of the lattice, the first point at 0. They are numbered row by row, so that the numbers of the
// last layer's are all that the next slab needs.
class SlabMesher {
 public:
  // A lattice of any number of layers of rows * points; inside is what is above the level, or below it.
  SlabMesher(int64_t rows, int64_t points, float level, bool below);

  // Takes the next layers, [layers, rows, points]; the first of them is the last one of the slab before.
  // Returns false, and takes nothing, where a value is not finite.
  // Throws std::overflow_error where there are more vertices than 32 bits can count.
  bool add(const float* values, int64_t layers);

  int64_t vertex_count() const { return (int64_t)vertices_.size() / 3; }
  int64_t triangle_count() const { return (int64_t)triangles_.size() / 3; }
  const float* vertices() const { return vertices_.data(); }
  const int32_t* triangles() const { return triangles_.data(); }

 private:
  // What a layer of cells adds besides vertices on edges.
  struct Layer {
    std::vector<int32_t> triangles;  // below 0: -1 - the number of an own vertex
    std::vector<float> own;
  };
  void triangles_of(int64_t layer, const float* values, Layer& out) const;
  void resolve(const IrregularCell& cell, int64_t layer, int64_t row, const float* values, Layer& out) const;

  const int64_t rows_, points_, words_;
  const float level_;
  const bool below_;
  int64_t begun_ = 0;                            // the layer that the next slab begins with
  std::vector<float> vertices_;
  std::vector<int32_t> triangles_;
  std::vector<uint64_t> inside_;                 // of a slab: [layers, rows, words]
  std::vector<int32_t> along_k_, along_j_, along_i_;  // first numbers: [layers, rows]
};

}  // namespace polyfield
