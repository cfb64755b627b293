// Carving a grid of cells by silhouettes: see csrc/math/carve.h.
#pragma once

#include "dispatch.h"
#include "math/carve.h"

namespace polyfield {

struct CarveKernels {
  // Clears kept[x, y, z] where the view shows a cell to be empty, for x in [begin, end) of resolution^3 cells of half
  // size `half`; `low` is the grid's low corner.
  void (*carve)(const CarveView& view, const float* low, const float* half, int64_t resolution, int64_t begin,
                int64_t end, uint8_t* kept);
};

POLYFIELD_FAMILY(CarveKernels, carve)

}  // namespace polyfield
