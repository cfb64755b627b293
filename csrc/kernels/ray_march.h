// Ray marching through an occupancy grid: see csrc/math/ray_march.h for where samples lie.
//
// `march` finds the stretches of a ray's lattice that lie in occupied cells, `fill` writes their samples.
#pragma once

#include "dispatch.h"
#include "math/ray_march.h"

namespace polyfield {

struct MarchRays {
  const float *origins, *directions;  // [R, 3]
  const float *near, *far;            // [R]
  const float* jitter;                // [R] in [0, 1), or null: 1/2
};

// Samples first .. first + count - 1 of a ray's lattice.
struct MarchRun {
  int32_t first, count;
};

struct MarchSamples {
  float *positions, *t0, *t1;  // [N, 3], [N], [N]
  int32_t* ray_ids;            // [N]
};

struct RayMarchKernels {
  // Marches rays [begin, end) until the runs of the next one may not fit; returns where it stopped. Writes
  // spans[r], run_counts[r] and samples[r] for each ray done and appends to runs; *used counts those there.
  int64_t (*march)(const MarchRays& rays, const MarchGrid& grid, const MarchStep& step, int64_t max_samples,
                   int64_t begin, int64_t end, RaySpan* spans, int32_t* run_counts, int64_t* samples, MarchRun* runs,
                   int64_t capacity, int64_t* used);
  // Writes the samples of rays [begin, end) where offsets says; `runs` are theirs, in order.
  void (*fill)(const MarchRays& rays, const MarchStep& step, int64_t begin, int64_t end, const RaySpan* spans,
               const int32_t* run_counts, const int64_t* offsets, const MarchRun* runs, const MarchSamples& out);
  // cells[n] = flat index of the cell of point n.
  void (*cells)(const MarchGrid& grid, const float* points, int64_t begin, int64_t end, int64_t* cells);
};

POLYFIELD_FAMILY(RayMarchKernels, ray_march)

}  // namespace polyfield
