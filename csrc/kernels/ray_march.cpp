#include "kernels/ray_march.h"

#include "simd.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

// Indices into a lattice stay exact in float32 together with the jitter's upper bits.
constexpr int32_t lattice_end = 1 << 22;

int64_t march(const MarchRays& rays, const MarchGrid& grid, const MarchStep& step, int64_t max_samples, int64_t begin,
              int64_t end, RaySpan* spans, int32_t* run_counts, int64_t* samples, MarchRun* runs, int64_t capacity,
              int64_t* used) {
  for (int64_t r = begin; r < end; ++r) {
    const float *o = rays.origins + 3 * r, *d = rays.directions + 3 * r;
    const RaySpan span = span_of(grid, o, d, rays.near[r], rays.far[r]);
    spans[r] = span;
    run_counts[r] = 0;
    samples[r] = 0;
    if (!(span.enter < span.leave)) continue;
    const float first = step.cone > 0.f ? steps_until(step, span.enter) : 0.f;
    const float jitter = rays.jitter != nullptr ? rays.jitter[r] : 0.5f;
    const float in_sight =
        (step.cone > 0.f ? steps_until(step, span.leave) - first : (span.leave - span.enter) / step.step) + 2.f;
    const int32_t steps = in_sight < (float)lattice_end ? (int32_t)in_sight : lattice_end;
    const int64_t most_runs = max_samples < steps / 2 + 1 ? max_samples : steps / 2 + 1;
    if (capacity - *used < most_runs) return r;

    float pace[3], slowness[3];
    for (int a = 0; a < 3; ++a) {
      pace[a] = d[a] * grid.inverse_half[a];
      slowness[a] = pace[a] == 0.f ? 1e30f : 1.f / pace[a];
    }
    MarchRun* run = runs + *used;
    MarchRun open = {0, 0};
    int64_t count = 0;
    for (int32_t k = 0; k < lattice_end && count < max_samples;) {
      const float t = time_at(step, span.enter, first, (float)k + jitter);
      if (!(t < span.leave)) break;
      const float p[3] = {o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2]};
      const MarchCell cell = cell_at(grid, p);
      const int32_t distance = grid.distance[flat_index(grid, cell)];
      if (distance == 0) {
        if (open.count == 0) open.first = k;
        ++open.count;
        ++count;
        ++k;
        continue;
      }
      if (open.count > 0) {
        *run++ = open;
        open.count = 0;
      }
      const float leaves = leaves_empty(grid, cell, pace, slowness, distance, t);
      const float ahead =
          step.cone > 0.f ? steps_until(step, leaves) - first - jitter : (leaves - span.enter) / step.step - jitter;
      // Land a little early: rounding must never carry the marcher past a sample.
      const float target = ahead - 0.0625f - ahead * 0x1p-20f;
      const int32_t jump = target < (float)lattice_end ? (int32_t)(target + 1.f) : lattice_end;
      k = jump > k + 1 ? jump : k + 1;
    }
    if (open.count > 0) *run++ = open;
    run_counts[r] = (int32_t)(run - (runs + *used));
    *used = run - runs;
    samples[r] = count;
  }
  return end;
}

void fill(const MarchRays& rays, const MarchStep& step, int64_t begin, int64_t end, const RaySpan* spans,
          const int32_t* run_counts, const int64_t* offsets, const MarchRun* runs, const MarchSamples& out) {
  for (int64_t r = begin; r < end; ++r) {
    const float *o = rays.origins + 3 * r, *d = rays.directions + 3 * r;
    const float o0 = o[0], o1 = o[1], o2 = o[2], d0 = d[0], d1 = d[1], d2 = d[2];
    const RaySpan span = spans[r];
    const float jitter = rays.jitter != nullptr ? rays.jitter[r] : 0.5f;
    const float first = step.cone > 0.f ? steps_until(step, span.enter) : 0.f;
    int64_t n = offsets[r];
    const int64_t stop = offsets[r + 1];
    for (int32_t i = 0; i < run_counts[r]; ++i, ++runs) {
      const int64_t count = runs->count < stop - n ? runs->count : stop - n;
      const int32_t from = runs->first;
      for (int64_t s = 0; s < count; ++s) {
        const float k = (float)(from + (int32_t)s);
        const float t = time_at(step, span.enter, first, k + jitter);
        const float before = time_at(step, span.enter, first, k + (jitter - 0.5f));
        const float after = time_at(step, span.enter, first, (k + 1.f) + (jitter - 0.5f));
        out.positions[3 * (n + s)] = o0 + t * d0;
        out.positions[3 * (n + s) + 1] = o1 + t * d1;
        out.positions[3 * (n + s) + 2] = o2 + t * d2;
        out.t0[n + s] = before > span.enter ? before : span.enter;
        out.t1[n + s] = after < span.leave ? after : span.leave;
        out.ray_ids[n + s] = (int32_t)r;
      }
      n += count;
    }
  }
}

void cells(const MarchGrid& grid, const float* points, int64_t begin, int64_t end, int64_t* cells) {
  for (int64_t n = begin; n < end; ++n) cells[n] = flat_index(grid, cell_at(grid, points + 3 * n));
}

}  // namespace

extern const RayMarchKernels ray_march = {march, fill, cells};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
