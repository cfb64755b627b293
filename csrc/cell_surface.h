// The surface of a function that is linear along each axis inside a cell: which of its edges' crossings belong
// together, and the triangles between them.
//
// Signs alone do not say that: on a face whose corners alternate, and between corners that lie apart, the values decide
// (Nielson and Hamann 1991, "The asymptotic decider"; Chernyaev 1995, "Marching cubes 33"). A face is cut as its
// bilinear function cuts it, so that both cells at it agree; what is connected through the inside is found by going
// through the cell slice by slice, as each slice is such a face.
//
// Corners and edges are numbered as in kernels/marching_cubes.h.
#pragma once

#include <cstdint>

#include "kernels/marching_cubes.h"

namespace polyfield {

// A surface in a cell, with the vertices on its edges, and some of its own.
struct CellSurface {
  static constexpr int most_own = 24, most_triangles = 96;
  int own_count = 0;
  float own[most_own][3];  // in the cell's coordinates, 0 to 1: along i, j, k
  int triangle_count = 0;
  uint8_t triangles[most_triangles][3];  // 0 to 11: vertices on edges; from 12 on: of its own
};

// The surface between corners that are above 0 and those that are not. Seen from where the function is not above 0,
// triangles go round anticlockwise.
CellSurface cell_surface(const double (&values)[8]);

// Triangles of all cells for which the signs suffice.
const CellTable& cell_table();

}  // namespace polyfield
