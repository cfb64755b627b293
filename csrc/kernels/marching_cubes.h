// Rows of cells of marching cubes: which lattice points are inside, where edges cross the surface, which triangles the
// cells have.
//
// A row of lattice points is a row of bits, so that 64 cells are looked at by a few operations, and the number of a
// vertex is that of the row's first one plus a count of bits before it: no cell remembers anything.
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

// Corners of a cell are numbered 4 i + 2 j + k by their offsets along the axes; k runs along the row. Edges: 0 to 3 run
// along k, at 2 i + j; 4 to 7 along j, at 2 i + k; 8 to 11 along i, at 2 j + k.
struct CellTable {
  uint8_t count[256];      // triangles of a cell with these corners inside; irregular: the values must say
  uint8_t edges[256][15];  // on which edges their corners are
};
constexpr uint8_t irregular_cell = 255;

// The cells between four rows of lattice points, (i, j), (i, j + 1), (i + 1, j) and (i + 1, j + 1).
struct CellRow {
  int64_t points;            // of a row, 2 or more
  const uint64_t* inside[4];  // a bit for each point, and nothing behind the last
  int32_t along_k[4], along_j[2], along_i[2];  // numbers of the first vertices on the edges of these rows
};

struct IrregularCell {
  int32_t k;
  int32_t vertices[12];  // on its edges, where they are crossed
};

struct MarchingCubesKernels {
  // Sets the bit of each point that is inside: above the level, or below it. Returns whether all values are finite.
  bool (*classify)(const float* values, int64_t points, float level, bool below, uint64_t* inside);
  // How many edges are crossed between the points of a row, and between two rows.
  int64_t (*crossings_along)(const uint64_t* row, int64_t points);
  int64_t (*crossings_between)(const uint64_t* row, const uint64_t* other, int64_t words);
  // Vertices on the edges along a row, and from a row to another, which lies a step further along `axis`; `place` is the
  // row's first point in units of steps. Three floats a vertex.
  void (*vertices_along)(const uint64_t* row, const float* values, int64_t points, float level, const float* place,
                         float* out);
  void (*vertices_between)(const uint64_t* row, const uint64_t* other, const float* values, const float* beyond,
                           int64_t points, float level, const float* place, int axis, float* out);
  // Triangles of a row of cells, three vertices each: at most five for a cell. Cells that the table does not know are
  // listed, and get none. Returns how many triangles there are.
  int64_t (*triangles)(const CellTable& table, const CellRow& row, int32_t* out, IrregularCell* listed,
                       int64_t* listed_count);
};

POLYFIELD_FAMILY(MarchingCubesKernels, marching_cubes)

}  // namespace polyfield
