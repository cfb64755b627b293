// Ray marching: a thread a ray, once to count its samples and once to write them.
#include "cuda/kernels.h"
#include "math/ray_march.h"

namespace polyfield {
namespace cuda {
namespace {

constexpr int march_threads = 128;
constexpr int32_t march_lattice_end = 1 << 22;  // as on the CPU: where float32 still tells lattice places apart

// Walks the lattice of ray r; calls take(k) for each sample in an occupied cell until `most` are taken.
template <class Take>
__device__ __forceinline__ int64_t walk(const MarchRays& rays, const MarchGrid& grid, const MarchStep& step, int64_t most,
                                        int64_t r, const RaySpan& span, float first, float jitter, Take take) {
  const float *o = rays.origins + 3 * r, *d = rays.directions + 3 * r;
  float pace[3], slowness[3];
  for (int a = 0; a < 3; ++a) {
    pace[a] = d[a] * grid.inverse_half[a];
    slowness[a] = pace[a] == 0.f ? 1e30f : 1.f / pace[a];
  }
  int64_t count = 0;
  for (int32_t k = 0; k < march_lattice_end && count < most;) {
    const float t = time_at(step, span.enter, first, k + jitter);
    if (!(t < span.leave)) break;
    const float p[3] = {o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2]};
    const MarchCell cell = cell_at(grid, p);
    const int32_t distance = grid.distance[flat_index(grid, cell)];
    if (distance == 0) {
      take(k, count);
      ++count;
      ++k;
      continue;
    }
    const float leaves = leaves_empty(grid, cell, pace, slowness, distance, t);
    const float ahead =
        step.cone > 0.f ? steps_until(step, leaves) - first - jitter : (leaves - span.enter) / step.step - jitter;
    const float target = ahead - 0.0625f - ahead * 0x1p-20f;  // a little early: never past a sample
    const int32_t jump = target < static_cast<float>(march_lattice_end) ? static_cast<int32_t>(target + 1.f) : march_lattice_end;
    k = jump > k + 1 ? jump : k + 1;
  }
  return count;
}

struct NoSample {
  __device__ void operator()(int32_t, int64_t) const {}
};

struct WriteSample {
  MarchSamples out;
  MarchStep step;
  RaySpan span;
  const float *o, *d;
  float first, jitter;
  int64_t at, ray;

  __device__ void operator()(int32_t k, int64_t index) const {
    const int64_t n = at + index;
    const float t = time_at(step, span.enter, first, k + jitter);
    const float before = time_at(step, span.enter, first, k + (jitter - 0.5f));
    const float after = time_at(step, span.enter, first, (k + 1.f) + (jitter - 0.5f));
    for (int a = 0; a < 3; ++a) out.positions[3 * n + a] = o[a] + t * d[a];
    out.t0[n] = fmaxf(before, span.enter);
    out.t1[n] = fminf(after, span.leave);
    out.ray_ids[n] = static_cast<int32_t>(ray);
  }
};

__global__ void march_count(MarchRays rays, MarchGrid grid, MarchStep step, int64_t max_samples, int64_t count,
                            int64_t* counts) {
  const int64_t r = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (r >= count) return;
  const RaySpan span = span_of(grid, rays.origins + 3 * r, rays.directions + 3 * r, rays.near[r], rays.far[r]);
  if (!(span.enter < span.leave)) {
    counts[r] = 0;
    return;
  }
  const float first = step.cone > 0.f ? steps_until(step, span.enter) : 0.f;
  const float jitter = rays.jitter != nullptr ? rays.jitter[r] : 0.5f;
  counts[r] = walk(rays, grid, step, max_samples, r, span, first, jitter, NoSample());
}

__global__ void march_fill(MarchRays rays, MarchGrid grid, MarchStep step, int64_t count, const int64_t* offsets,
                           MarchSamples out) {
  const int64_t r = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (r >= count || offsets[r] == offsets[r + 1]) return;
  const float *o = rays.origins + 3 * r, *d = rays.directions + 3 * r;
  const RaySpan span = span_of(grid, o, d, rays.near[r], rays.far[r]);
  const float first = step.cone > 0.f ? steps_until(step, span.enter) : 0.f;
  const float jitter = rays.jitter != nullptr ? rays.jitter[r] : 0.5f;
  const WriteSample write = {out, step, span, o, d, first, jitter, offsets[r], r};
  walk(rays, grid, step, offsets[r + 1] - offsets[r], r, span, first, jitter, write);
}

}  // namespace

void ray_march_count(const MarchRays& rays, const MarchGrid& grid, const MarchStep& step, int64_t max_samples,
                     int64_t count, int64_t* counts, Stream stream) {
  if (count == 0) return;
  POLYFIELD_LAUNCH(march_count, blocks_for(count, march_threads), march_threads, 0, stream, rays, grid, step, max_samples,
                   count, counts);
}

void ray_march_fill(const MarchRays& rays, const MarchGrid& grid, const MarchStep& step, int64_t count,
                    const int64_t* offsets, const MarchSamples& out, Stream stream) {
  if (count == 0) return;
  POLYFIELD_LAUNCH(march_fill, blocks_for(count, march_threads), march_threads, 0, stream, rays, grid, step, count, offsets,
                   out);
}

}  // namespace cuda
}  // namespace polyfield
