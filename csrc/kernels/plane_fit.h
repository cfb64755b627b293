// The point of a cell that fits tangent planes best, cell by cell: what dual contouring puts its vertices at.
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

struct PlaneFitSetup {
  // Sample s says: the surface goes through feet[3s...] at right angles to normals[3s...], a unit vector; where used[s]
  // is 0 it says nothing.
  const double* feet;
  const double* normals;
  const uint8_t* used;
  const int64_t* samples;  // [cells, per_cell]: the samples of each cell
  int64_t per_cell;
  const double* low;     // [cells, 3]: its lower corner
  const double* origin;  // [cells, 3]: where it is as good as anywhere, if the planes do not say
  double side;           // of all cells
  double keep;           // singular values below this share of the largest count as 0
  // How far outside its cell a point may lie, in sides, by the number of directions that the planes tell.
  double beyond[4];
};

struct PlaneFitKernels {
  // For cells [begin, end): the point [cells, 3]; how many directions the planes tell there, 0 where none fitted and the
  // point is the origin; and a direction [cells, 3]: the normal of one plane, the crease of two, else 0.
  void (*fit)(const PlaneFitSetup& setup, int64_t begin, int64_t end, double* point, uint8_t* rank, double* direction);
};

POLYFIELD_FAMILY(PlaneFitKernels, plane_fit)

}  // namespace polyfield
