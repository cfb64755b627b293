#include "tracer.h"

#include <algorithm>

#include "kernels/composite.h"
#include "parallel.h"

namespace polyfield {
namespace {

constexpr int64_t tile_rays = 256;
// Samples of a ray at a turn. More would be looked at in vain where nothing is known of the cells yet.
constexpr int64_t most_samples = 16;
// A turn ends where the cells' depths say that next to nothing behind can be seen: they are estimates, from above. A
// ray that then still sees meets thin stuff, and goes further each time.
constexpr float enough = 8.f, growth = 2.f, boundless = 1e30f;
// Visible samples of which the memory is kept for the next time: what training asks for again and again.
constexpr int64_t usual_samples = 1 << 18;

// Some rays of a tile under way.
struct Front {
  std::vector<float> origins, directions, jitter, left;  // left: transmittance so far
  std::vector<int32_t> ray, begin;                       // number within the tile; where to go on in its lattice

  void clear() {
    for (auto* list : {&origins, &directions, &jitter, &left}) list->clear();
    ray.clear();
    begin.clear();
  }
};

// The samples of the rays that were under way at one turn.
struct Turn {
  std::vector<int32_t> ray;            // [A]
  std::vector<int64_t> offsets, seen;  // [A + 1], [A]
  std::vector<float> positions, t0, t1, sigma, features, encoded;
};

inline void copy(float* to, const float* from, int64_t n) {  // n is small: a call of memcpy would cost more
  for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}

}  // namespace

// The samples that can be seen of a tile's rays, in the order of rays.
struct Tracer::Tile {
  std::vector<float> positions, t0, t1, sigma, color, encoded;
  int64_t evaluated = 0;
};

struct Tracer::Workspace {
  Front front, next;
  std::vector<float> near, far, features;
  std::vector<RaySpan> spans;
  std::vector<int32_t> first_run, resume, ids;
  std::vector<int64_t> place;
  std::vector<MarchRun> runs;
  std::vector<Turn> turns;
  PointField::Scratch scratch;

  size_t follow(const TraceRays& rays, const TraceSettings& settings, const PointField& field, int64_t first,
                int64_t count, int64_t* counts, int64_t* evaluated);
  int64_t march(const TraceRays& rays, const TraceSettings& settings, const Front& front, int64_t first, bool begins,
                float depth, Turn& turn);
  void merge(const TraceRays& rays, const TraceSettings& settings, const PointField& field, int64_t first,
             int64_t count, const int64_t* counts, size_t turns_used, Tile& tile);
};

Tracer::Tracer() = default;
Tracer::~Tracer() = default;

int64_t Tracer::trace(const TraceRays& rays, const TraceSettings& settings, const PointField& field, int64_t* offsets) {
  const int64_t tiles = (rays.count + tile_rays - 1) / tile_rays;
  rays_ = rays.count;
  if (static_cast<int64_t>(tiles_.size()) < tiles) tiles_.resize(tiles);
  while (static_cast<int>(workspaces_.size()) < thread_count()) workspaces_.push_back(std::make_unique<Workspace>());
  parallel_tasks(tiles, [&](int64_t t, int thread) {
    const int64_t first = t * tile_rays, count = std::min(tile_rays, rays.count - first);
    Workspace& work = *workspaces_[thread];
    int64_t* counts = offsets + 1 + first;
    const size_t turns = work.follow(rays, settings, field, first, count, counts, &tiles_[t].evaluated);
    work.merge(rays, settings, field, first, count, counts, turns, tiles_[t]);
  });
  offsets[0] = 0;
  for (int64_t r = 0; r < rays.count; ++r) offsets[r + 1] += offsets[r];
  int64_t evaluated = 0;
  for (int64_t t = 0; t < tiles; ++t) evaluated += tiles_[t].evaluated;
  return evaluated;
}

// Goes along the rays of a tile until nothing more can be seen. Gives the number of turns it took.
size_t Tracer::Workspace::follow(const TraceRays& rays, const TraceSettings& settings, const PointField& field,
                                 int64_t first, int64_t count, int64_t* counts, int64_t* evaluated) {
  near.assign(count, rays.near);
  far.assign(count, rays.far);
  std::fill_n(counts, count, int64_t{0});
  *evaluated = 0;
  front.clear();
  front.left.assign(count, 1.f);
  for (int64_t r = 0; r < count; ++r) front.ray.push_back(static_cast<int32_t>(r));
  float depth = enough;
  size_t k = 0;
  for (; !front.ray.empty(); ++k, depth = std::min(depth * growth, boundless)) {
    if (turns.size() == k) turns.emplace_back();
    Turn& turn = turns[k];
    const int64_t n = march(rays, settings, front, first, k == 0, depth, turn);
    const int64_t alive = static_cast<int64_t>(front.ray.size());
    *evaluated += n;
    field.evaluate(turn.positions.data(), n, scratch, room(turn.sigma, n), room(turn.features, field.features() * n));
    if (settings.keep_encoded) std::swap(turn.encoded, scratch.encoded);
    composite().visible(turn.sigma.data(), turn.t0.data(), turn.t1.data(), turn.offsets.data(),
                        settings.min_transmittance, 0, alive, front.left.data(), room(turn.seen, alive));
    turn.ray = front.ray;
    next.clear();
    for (int64_t a = 0; a < alive; ++a) {
      const int32_t ray = front.ray[a];
      counts[ray] += turn.seen[a];
      if (resume[a] < 0 || !(front.left[a] >= settings.min_transmittance)) continue;
      const int64_t at = first + ray;
      next.ray.push_back(ray);
      next.begin.push_back(resume[a]);
      next.left.push_back(front.left[a]);
      next.origins.insert(next.origins.end(), rays.origins + 3 * at, rays.origins + 3 * at + 3);
      next.directions.insert(next.directions.end(), rays.directions + 3 * at, rays.directions + 3 * at + 3);
      if (rays.jitter != nullptr) next.jitter.push_back(rays.jitter[at]);
    }
    std::swap(front, next);
  }
  return k;
}

// Places the samples of one turn.
int64_t Tracer::Workspace::march(const TraceRays& rays, const TraceSettings& settings, const Front& front, int64_t first,
                                 bool begins, float depth, Turn& turn) {
  const int64_t alive = static_cast<int64_t>(front.ray.size());
  MarchRays batch = {front.origins.data(), front.directions.data(), near.data(), far.data(),
                     rays.jitter == nullptr ? nullptr : front.jitter.data()};
  if (begins) {
    batch.origins = rays.origins + 3 * first;
    batch.directions = rays.directions + 3 * first;
    batch.jitter = rays.jitter == nullptr ? nullptr : rays.jitter + first;
  }
  const MarchStretch stretch = {begins ? nullptr : front.begin.data(), most_samples, depth, settings.depths,
                                room(resume, alive)};
  int64_t* offsets = room(turn.offsets, alive + 1);
  room(spans, alive);
  room(first_run, alive);
  room(runs, 4 * tile_rays);
  while (!ray_march().march(batch, settings.lattice.grid, settings.lattice.step, stretch, 0, alive, spans.data(), first_run.data(),
                            offsets + 1, runs.data(), static_cast<int64_t>(runs.size())))
    runs.resize(2 * runs.size());
  offsets[0] = 0;
  for (int64_t a = 0; a < alive; ++a) offsets[a + 1] += offsets[a];
  const int64_t n = offsets[alive];
  ray_march().fill(batch, settings.lattice.step, 0, alive, spans.data(), first_run.data(), offsets, runs.data(),
                   {room(turn.positions, 3 * n), room(turn.t0, n), room(turn.t1, n), room(ids, n)});
  return n;
}

// Puts the turns of each ray one behind the other, and gives the samples their colours.
void Tracer::Workspace::merge(const TraceRays& rays, const TraceSettings& settings, const PointField& field,
                              int64_t first, int64_t count, const int64_t* counts, size_t turns_used, Tile& tile) {
  room(place, count);
  int64_t total = 0;
  for (int64_t r = 0; r < count; ++r) {
    place[r] = total;
    total += counts[r];
  }
  const int64_t width = field.features(), encoded_width = settings.keep_encoded ? field.encoder->width() : 0;
  float *positions = room(tile.positions, 3 * total), *t0 = room(tile.t0, total), *t1 = room(tile.t1, total),
        *sigma = room(tile.sigma, total), *encoded = room(tile.encoded, encoded_width * total),
        *rows = room(features, width * total);
  room(ids, total);
  for (size_t k = 0; k < turns_used; ++k) {
    const Turn& turn = turns[k];
    const int64_t alive = static_cast<int64_t>(turn.ray.size()), n = turn.offsets[alive];
    for (int64_t a = 0; a < alive; ++a) {
      const int64_t from = turn.offsets[a], some = turn.seen[a], at = place[turn.ray[a]];
      copy(positions + 3 * at, turn.positions.data() + 3 * from, 3 * some);
      copy(t0 + at, turn.t0.data() + from, some);
      copy(t1 + at, turn.t1.data() + from, some);
      copy(sigma + at, turn.sigma.data() + from, some);
      copy(rows + width * at, turn.features.data() + width * from, width * some);
      for (int64_t f = 0; f < encoded_width; ++f) copy(encoded + f * total + at, turn.encoded.data() + f * n + from, some);
      std::fill_n(ids.begin() + at, some, static_cast<int32_t>(first + turn.ray[a]));
      place[turn.ray[a]] += some;
    }
  }
  field.shade(positions, rows, rays.conditions, ids.data(), total, scratch, room(tile.color, 3 * total));
}

void Tracer::collect(const int64_t* offsets, int64_t encoded_width, const TracedSamples& out) {
  const int64_t tiles = (rays_ + tile_rays - 1) / tile_rays, all = offsets[rays_];
  parallel_tasks(tiles, [&](int64_t t, int) {
    const Tile& tile = tiles_[t];
    const int64_t first = t * tile_rays, last = std::min(rays_, first + tile_rays);
    const int64_t at = offsets[first], n = offsets[last] - at;
    std::copy_n(tile.positions.data(), 3 * n, out.positions + 3 * at);
    std::copy_n(tile.t0.data(), n, out.t0 + at);
    std::copy_n(tile.t1.data(), n, out.t1 + at);
    std::copy_n(tile.sigma.data(), n, out.sigma + at);
    std::copy_n(tile.color.data(), 3 * n, out.color + 3 * at);
    for (int64_t f = 0; out.encoded != nullptr && f < encoded_width; ++f)
      std::copy_n(tile.encoded.data() + f * n, n, out.encoded + f * all + at);
    for (int64_t r = first; r < last; ++r)
      std::fill(out.ray_ids + offsets[r], out.ray_ids + offsets[r + 1], static_cast<int32_t>(r));
  });
  if (all > usual_samples) {
    tiles_.clear();
    tiles_.shrink_to_fit();
    workspaces_.clear();
  }
}

}  // namespace polyfield
