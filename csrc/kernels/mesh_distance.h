// The triangle of a mesh that lies closest to a point, and how often the mesh winds around it.
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

// A tree over triangles in an order such that close ones stand together: leaf i holds the W triangles from iW on, node
// i of a level the W nodes (of level 0: the leaves) from iW on of the level below. Only the last of a level is not
// full: its leaf is filled up by a corner of the last triangle, its boxes are empty. Lengths are in units of the mesh's
// own size, half the longest side of its box, and the box's middle is the origin.
struct MeshTreeView {
  int levels;              // of nodes; the topmost has one
  const int64_t* first;    // [levels]: where the nodes of a level begin
  const float* boxes;      // [nodes, 6, W]: lower corners x y z and upper corners x y z of the children
  const float* dipoles;    // [nodes, 7, W]: middle, sum of area * normal, and squared distance from which these suffice
  const float* triangles;  // [leaves, 19, W]: a corner A; edges u = B - A, v = C - A; the gradients g, h of the weights
                           // of B and C; 1 over the squares of u, v, v - u and h. Without area the last is NaN, g and
                           // h are 0
  const int32_t* faces;    // [leaves, W]
  // The mesh itself, for the last step, which is taken in double precision.
  const double* vertices;
  const int32_t* corners;  // [faces, 3]
  double middle[3], size;  // in the units of the points
};

struct MeshDistanceKernels {
  int width;  // W
  // For points order[begin] to order[end - 1], best in an order in which neighbours are near each other: distance, face
  // and closest point. A point that is not finite gets NaN and face -1.
  void (*closest)(const MeshTreeView& tree, const double* points, const int32_t* order, int64_t begin, int64_t end,
                  float* distance, int64_t* face, float* closest);
  // Winding number; NaN where a point is not finite. `free`, or null: how far each point is from the surface of a
  // closed mesh, around which the number changes nowhere else; points within that reach of each other then share it.
  void (*winding)(const MeshTreeView& tree, const double* points, const int32_t* order, const float* free,
                  int64_t begin, int64_t end, float* winding);
};

POLYFIELD_FAMILY(MeshDistanceKernels, mesh_distance)

}  // namespace polyfield
