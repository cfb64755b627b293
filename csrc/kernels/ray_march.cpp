#include "kernels/ray_march.h"

#include "simd.h"

// Finding the way of a ray is a chain of dependent reads and divisions, so a core takes W rays side by side, one to a
// lane; a lane whose ray has ended takes the next one. The formulas are those of csrc/math/ray_march.h.

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

// Indices into a lattice stay exact in float32 together with the jitter's upper bits.
constexpr int32_t lattice_end = 1 << 22;

// See time_at: marching and filling must agree to the last bit, so both call this.
PF_INLINE vf times_at(const MarchStep& s, vf enter, vf first, vf k) {
  if (s.cone == 0.f) return fma(k, splat(s.step), enter);
  const vf u = first + k;
  const vf growing = splat(s.grow) * exp((min(u, splat(s.u_flat)) - splat(s.u_grow)) * splat(s.cone));
  const vf beyond = fma(u - splat(s.u_flat), splat(s.largest), splat(s.flat));
  return select(u < splat(s.u_grow), u * splat(s.step), select(u < splat(s.u_flat), growing, beyond));
}

// See steps_until.
PF_INLINE vf steps_to(const MarchStep& s, vf t) {
  const vf growing = fma(log(max(t, splat(s.grow)) * splat(1.f / s.grow)), splat(1.f / s.cone), splat(s.u_grow));
  const vf beyond = fma(t - splat(s.flat), splat(1.f / s.largest), splat(s.u_flat));
  return select(t < splat(s.grow), t * splat(1.f / s.step), select(t < splat(s.flat), growing, beyond));
}

// W rays under way: what holds for the whole ray, and how far it got.
struct Lanes {
  alignas(64) float origin[3][W], direction[3][W], slowness[3][W];
  alignas(64) float enter[W], leave[W], first[W], jitter[W], depth[W];
  alignas(64) int32_t k[W], open_first[W], open_count[W], count[W];
  int64_t ray[W];     // -1: none
  int32_t last[W];  // the ray's latest run, or -1
};

// Ends the lane; what it then says is harmless: t is never before `leave`.
void rest(Lanes& lanes, int lane) {
  lanes.ray[lane] = -1;
  for (int a = 0; a < 3; ++a) lanes.origin[a][lane] = lanes.direction[a][lane] = lanes.slowness[a][lane] = 0.f;
  lanes.enter[lane] = lanes.leave[lane] = lanes.first[lane] = lanes.jitter[lane] = lanes.depth[lane] = 0.f;
  lanes.k[lane] = lanes.open_first[lane] = lanes.open_count[lane] = lanes.count[lane] = 0;
}

// Gives the lane the next ray that crosses the box; without one it rests. Rays on the way there are done.
bool take_next(Lanes& lanes, int lane, const MarchRays& rays, const MarchGrid& grid, const MarchStep& step,
               const MarchStretch& stretch, int64_t& next, int64_t end, RaySpan* spans, int32_t* first_run,
               int64_t* samples) {
  for (; next < end; ++next) {
    const float *o = rays.origins + 3 * next, *d = rays.directions + 3 * next;
    const RaySpan span = span_of(grid, o, d, rays.near[next], rays.far[next]);
    spans[next] = span;
    first_run[next] = -1;
    samples[next] = 0;
    if (stretch.resume != nullptr) stretch.resume[next] = -1;
    if (!(span.enter < span.leave) || (stretch.begin != nullptr && stretch.begin[next] < 0)) continue;
    lanes.ray[lane] = next;
    lanes.last[lane] = -1;
    for (int a = 0; a < 3; ++a) {
      lanes.origin[a][lane] = o[a];
      lanes.direction[a][lane] = d[a];
      const float pace = d[a] * grid.inverse_half[a];
      lanes.slowness[a][lane] = pace == 0.f ? 1e30f : 1.f / pace;
    }
    lanes.enter[lane] = span.enter;
    lanes.leave[lane] = span.leave;
    lanes.first[lane] = step.cone > 0.f ? steps_until(step, span.enter) : 0.f;
    lanes.jitter[lane] = rays.jitter != nullptr ? rays.jitter[next] : 0.5f;
    lanes.depth[lane] = 0.f;
    lanes.k[lane] = stretch.begin != nullptr ? stretch.begin[next] : 0;
    lanes.open_count[lane] = lanes.count[lane] = 0;
    ++next;
    return true;
  }
  rest(lanes, lane);
  return false;
}

// Where W points lie: see cell_at. `side` is that of a cell, in halves of the finest level's box.
struct Cells {
  vi flat;
  vf index[3], place[3], side;
};

PF_INLINE Cells cells_at(const MarchGrid& g, const vf (&p)[3]) {
  Cells c;
  vf q[3], size = vf{};
  for (int a = 0; a < 3; ++a) {
    q[a] = (p[a] - splat(g.center[a])) * splat(g.inverse_half[a]);
    size = max((vf)((vi)q[a] & 0x7fffffff), size);
  }
  const float middle = 0.5f * (float)g.resolution;
  vf scale = splat(middle);
  vi level = {};
  c.side = splat(1.f / middle);
  float bound = 1.f;
  for (int32_t l = 0; l < g.levels - 1; ++l, bound *= 2.f) {
    const vi beyond = size > splat(bound);
    level -= beyond;
    scale = select(beyond, scale * 0.5f, scale);
    c.side = select(beyond, c.side + c.side, c.side);
  }
  const vf last = splat((float)(g.resolution - 1));
  vi flat = level;
  for (int a = 0; a < 3; ++a) {
    c.place[a] = fma(q[a], scale, splat(middle));
    const vi index = to_int(min(max(c.place[a], vf{}), last));
    c.index[a] = to_float(index);
    flat = flat * g.resolution + index;
  }
  c.flat = flat;
  return c;
}

// Bytes at W places, by the aligned words around them: the grid's size is a multiple of four.
PF_INLINE vi bytes_at(const uint8_t* bytes, vi place) {
  const vi words = gather_i((const int32_t*)(const void*)bytes, place >> 2);
  return (vi)((vu)words >> ((vu)(place & 3) << 3)) & 0xff;
}

// See leaves_empty.
PF_INLINE vf leaving(const MarchGrid& g, const Cells& c, const Lanes& lanes, vi distance, vf t) {
  const vf reach = to_float(distance), end = splat((float)g.resolution);
  vf wait = splat(3e38f);
  for (int a = 0; a < 3; ++a) {
    const vf slowness = load(lanes.slowness[a]);
    const vf edge = select(slowness < vf{}, c.index[a] - reach + 1.f, c.index[a] + reach);
    wait = min((min(max(edge, vf{}), end) - c.place[a]) * slowness * c.side, wait);
  }
  return t + wait;
}

bool march(const MarchRays& rays, const MarchGrid& grid, const MarchStep& step, const MarchStretch& stretch,
           int64_t begin, int64_t end, RaySpan* spans, int32_t* first_run, int64_t* samples, MarchRun* runs,
           int64_t capacity) {
  const int32_t most = stretch.max_samples < lattice_end ? (int32_t)stretch.max_samples : lattice_end;
  Lanes lanes;
  int64_t next = begin;
  int32_t used = 0;
  int busy = 0;
  for (int lane = 0; lane < W; ++lane)
    busy += take_next(lanes, lane, rays, grid, step, stretch, next, end, spans, first_run, samples);
  while (busy > 0) {
    vi k = load_i(lanes.k), open_count = load_i(lanes.open_count), count = load_i(lanes.count);
    const vf enter = load(lanes.enter), first = load(lanes.first), jitter = load(lanes.jitter);
    const vf t = times_at(step, enter, first, to_float(k) + jitter);
    const vi inside = (vi)(t < load(lanes.leave));
    vf p[3];
    for (int a = 0; a < 3; ++a) p[a] = fma(t, load(lanes.direction[a]), load(lanes.origin[a]));
    const Cells cells = cells_at(grid, p);
    const vi distance = bytes_at(grid.distance, cells.flat);
    const vi occupied = inside & (distance == 0);
    const vi closed = ~occupied & (open_count > 0);

    // Past empty cells. Land a little early: rounding must never carry the marcher past a sample.
    const vf leaves = leaving(grid, cells, lanes, distance, t);
    const vf ahead =
        (step.cone > 0.f ? steps_to(step, leaves) - first : (leaves - enter) * splat(1.f / step.step)) - jitter;
    const vf target = min(ahead - 0.0625f - ahead * 0x1p-20f, splat((float)lattice_end));
    const vi jump = to_int(target + 1.f);
    const vi onward = select_i(~occupied & (jump > k + 1), jump, k + 1);
    store_i(lanes.open_first, select_i(occupied & (open_count == 0), k, load_i(lanes.open_first)));
    open_count -= occupied;  // a lane of -1 adds one
    count -= occupied;
    store_i(lanes.open_count, open_count);
    store_i(lanes.count, count);
    store_i(lanes.k, onward);
    vi enough = count >= most;
    if (stretch.depths != nullptr) {
      const vf thought = gather(stretch.depths, cells.flat & occupied);
      const vf known = select(thought < splat(3.4e38f), thought, splat(stretch.max_depth / 15.5f));
      const vf depth = load(lanes.depth) + (vf)((vi)max(known, vf{}) & occupied);
      store(lanes.depth, depth);
      enough |= (vi)(depth >= splat(stretch.max_depth));
    }

    const uint32_t cut = bits_of(inside & enough), ended = cut | bits_of(~inside | (onward >= lattice_end));
    for (uint32_t bits = bits_of(closed) | ended; bits != 0; bits &= bits - 1) {
      const int lane = __builtin_ctz(bits);
      const int64_t ray = lanes.ray[lane];
      if (ray < 0) continue;
      if (lanes.open_count[lane] > 0) {
        if (used == capacity) return false;
        runs[used] = {lanes.open_first[lane], lanes.open_count[lane], -1};
        (lanes.last[lane] < 0 ? first_run[ray] : runs[lanes.last[lane]].next) = used;
        lanes.last[lane] = used++;
        lanes.open_count[lane] = 0;
      }
      if (ended >> lane & 1) {
        samples[ray] = lanes.count[lane];
        if ((cut >> lane & 1) && stretch.resume != nullptr) stretch.resume[ray] = lanes.k[lane];
        busy -= !take_next(lanes, lane, rays, grid, step, stretch, next, end, spans, first_run, samples);
      }
    }
  }
  return true;
}

void fill(const MarchRays& rays, const MarchStep& step, int64_t begin, int64_t end, const RaySpan* spans,
          const int32_t* first_run, const int64_t* offsets, const MarchRun* runs, const MarchSamples& out) {
  alignas(64) float count_up[W], lane_t[W];
  for (int i = 0; i < W; ++i) count_up[i] = (float)i;
  for (int64_t r = begin; r < end; ++r) {
    const float *o = rays.origins + 3 * r, *d = rays.directions + 3 * r;
    const vf enter = splat(spans[r].enter), leave = splat(spans[r].leave);
    const float jitter = rays.jitter != nullptr ? rays.jitter[r] : 0.5f;
    const vf first = splat(step.cone > 0.f ? steps_until(step, spans[r].enter) : 0.f);
    int64_t n = offsets[r];
    const int64_t stop = offsets[r + 1];
    for (int32_t i = first_run[r]; i >= 0 && n < stop; i = runs[i].next) {
      const int64_t count = runs[i].count < stop - n ? runs[i].count : stop - n;
      for (int64_t s = 0; s < count; s += W, n += W) {
        const vf k = load(count_up) + (float)(runs[i].first + (int32_t)s);
        const int some = count - s < W ? (int)(count - s) : W;
        store(lane_t, times_at(step, enter, first, k + jitter));
        store_part(out.t0 + n, max(times_at(step, enter, first, k + (jitter - 0.5f)), enter), some);
        store_part(out.t1 + n, min(times_at(step, enter, first, k + 1.f + (jitter - 0.5f)), leave), some);
        for (int j = 0; j < some; ++j) {
          for (int a = 0; a < 3; ++a) out.positions[3 * (n + j) + a] = fma(lane_t[j], d[a], o[a]);
          out.ray_ids[n + j] = (int32_t)r;
        }
        if (some < W) n += some - W;
      }
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
