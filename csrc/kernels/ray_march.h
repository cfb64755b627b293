// Ray marching through an occupancy grid: see csrc/math/ray_march.h for where samples lie.
//
// `march` finds the stretches of a ray's lattice that lie in occupied cells, `fill` writes their samples.
#pragma once

#include "dispatch.h"
#include "math/ray_march.h"

namespace polyfield {

// Which cells are occupied, and where samples may lie.
struct MarchLattice {
  MarchGrid grid;
  MarchStep step;
};

struct MarchRays {
  const float *origins, *directions;  // [R, 3]
  const float *near, *far;            // [R]
  const float* jitter;                // [R] in [0, 1), or null: 1/2
};

// Where a ray's stretch begins and ends, besides its span.
struct MarchStretch {
  const int32_t* begin;  // [R] first place of the lattice to look at (negative: the ray has ended), or null: 0
  int64_t max_samples;
  // The stretch ends behind the sample whose cell brings the sum of `depths` over its samples' cells to this.
  float max_depth;
  // As many as the grid has cells: what a step there is thought to absorb. Negative: nothing; infinite: nobody knows,
  // sixteen of them are enough. Null: nothing anywhere.
  const float* depths;
  int32_t* resume;      // [R] where to go on after a stretch that one of the limits ended, else -1; may be null
};

// Samples first .. first + count - 1 of a ray's lattice, and the number of the ray's next run, or -1. Rays are marched
// side by side, so their runs lie mixed.
struct MarchRun {
  int32_t first, count, next;
};

struct MarchSamples {
  float *positions, *t0, *t1;  // [N, 3], [N], [N]
  int32_t* ray_ids;            // [N]
};

struct RayMarchKernels {
  // Marches rays [begin, end). Writes spans[r], first_run[r] (or -1) and samples[r] of each, and their runs. Returns
  // whether the runs fit into `capacity`; when not, nothing that was written means anything.
  bool (*march)(const MarchRays& rays, const MarchGrid& grid, const MarchStep& step, const MarchStretch& stretch,
                int64_t begin, int64_t end, RaySpan* spans, int32_t* first_run, int64_t* samples, MarchRun* runs,
                int64_t capacity);
  // Writes the samples of rays [begin, end), from the same `runs`, where offsets says.
  void (*fill)(const MarchRays& rays, const MarchStep& step, int64_t begin, int64_t end, const RaySpan* spans,
               const int32_t* first_run, const int64_t* offsets, const MarchRun* runs, const MarchSamples& out);
  // cells[n] = flat index of the cell of point n.
  void (*cells)(const MarchGrid& grid, const float* points, int64_t begin, int64_t end, int64_t* cells);
};

POLYFIELD_FAMILY(RayMarchKernels, ray_march)

}  // namespace polyfield
