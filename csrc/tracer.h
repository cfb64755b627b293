// Tracing rays front to back through a field: march some way, ask for densities, and go on only where something behind
// can still be seen. Rays are taken a tile at a time, and a tile stays with its thread from the first step to the
// colours, so that a turn costs no more than its samples and what passes from step to step stays in the cache.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/ray_march.h"
#include "point_field.h"

namespace polyfield {

struct TraceRays {
  const float *origins, *directions;  // [R, 3]
  const float* jitter;                // [R] or null, as in MarchRays
  int64_t count;
  float near, far;
  PointConditions conditions;         // of these rays
};

struct TraceSettings {
  MarchLattice lattice;
  const float* depths;  // as in MarchStretch; null: nothing is known
  float min_transmittance;
  bool keep_encoded;    // whether `collect` is to give what the encoder said
};

struct TracedSamples {
  float *positions, *t0, *t1, *sigma, *color;  // [N, 3], [N], [N], [N], [N, 3]
  float* encoded;                              // [width][N], or null
  int32_t* ray_ids;                            // [N]
};

class Tracer {
 public:
  Tracer();
  ~Tracer();

  // Finds the samples of each ray before which at least min_transmittance is left. Fills offsets [R + 1]; returns how
  // many samples the field was asked about.
  int64_t trace(const TraceRays& rays, const TraceSettings& settings, const PointField& field, int64_t* offsets);
  // Writes the samples that the last `trace` found, and gives back their memory if it is much.
  void collect(const int64_t* offsets, int64_t encoded_width, const TracedSamples& out);

 private:
  struct Tile;
  struct Workspace;
  std::vector<Tile> tiles_;
  std::vector<std::unique_ptr<Workspace>> workspaces_;
  int64_t rays_ = 0;
};

}  // namespace polyfield
