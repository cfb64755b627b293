#include "kernels/sparse_grid.h"

#include "simd.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

constexpr float nothing[sparse_grid_most_channels] = {};  // what a vertex without a row holds

// Where W points lie.
struct Place {
  int32_t base[W];     // the lowest corner's place in the lattice
  int32_t layer[W];    // along the third axis
  float t[3][W];       // from there to the next, in [0, 1]; NaN for NaN
  float slope[3][W];   // of t along its axis: 0 where the point was clamped or is NaN
  float weight[8][W];
  int32_t row[8][W];   // of the corners; -1: none
};

PF_INLINE int block_size(int64_t begin, int64_t end) { return end - begin < W ? static_cast<int>(end - begin) : W; }

// Channels are taken W at a time; the last block ends with the last channel and so may begin within the one before.
struct Block {
  int64_t at;   // first channel
  int from;     // lanes below this belong to the block before
  int left;     // W, or all channels where they are fewer
};

PF_INLINE int block_count(int channels) { return (channels + W - 1) / W; }
PF_INLINE Block block_of(int channels, int number) {
  if (channels < W) return {0, 0, channels};
  const int begin = number * W, most = channels - W;
  return begin <= most ? Block{begin, 0, W} : Block{most, begin - most, W};
}
PF_INLINE vf read(const float* p, const Block& block) { return block.left == W ? load(p + block.at) : load_part(p + block.at, block.left); }
PF_INLINE void write(float* p, vf v, const Block& block) {
  if (block.left == W)
    store(p + block.at, v);
  else
    store_part(p + block.at, v, block.left);
}
// The same with 0 where lanes belong to the block before: for what is summed.
PF_INLINE vf read_own(const float* p, const Block& block) {
  vi lane;
  for (int i = 0; i < W; ++i) lane[i] = i;
  const vf v = read(p, block);
  return block.from == 0 ? v : select(lane < splat_i(block.from), splat(0.f), v);
}

// The place of W points, and their corners' entries of the index asked for.
PF_INLINE void locate(const SparseGridJob& job, const float* x, int64_t point, int count, Place& place) {
  const float last = static_cast<float>(job.side - 1);
  const int32_t strides[3] = {1, job.side, job.side * job.side};
  vi base = {};
  vf t[3];
  for (int a = 0; a < 3; ++a) {
    vf along = {};
    for (int p = 0; p < count; ++p) along[p] = x[(point + p) * 3 + a];
    const vf q = last * min(max(along, splat(0.f)), splat(1.f));  // a NaN counts as 0
    const vf cell = min(floor(q), splat(last - 1.f));
    t[a] = select(along == along, q - cell, splat(__builtin_nanf("")));
    base += strides[a] * to_int(cell);
    if (a == 2) store_i(place.layer, to_int(cell));
    store(place.t[a], t[a]);
    store(place.slope[a], select((along >= splat(0.f)) & (along <= splat(1.f)), splat(last), splat(0.f)));
  }
  store_i(place.base, base);
  for (int c = 0; c < 8; ++c) {
    vf weight = splat(1.f);
    for (int a = 0; a < 3; ++a) weight = weight * (c >> a & 1 ? t[a] : splat(1.f) - t[a]);
    store(place.weight[c], weight);
  }
  for (int p = 0; p < count; ++p)
    for (int c = 0; c < 8; c += 2) __builtin_prefetch(job.index + place.base[p] + strides[1] * (c >> 1 & 1) + strides[2] * (c >> 2));
}

// The rows of their corners, which are asked for too.
PF_INLINE void resolve(const SparseGridJob& job, int count, const float* table, Place& place) {
  const vi base = load_i(place.base);
  for (int c = 0; c < 8; ++c) {
    const int32_t step = (c & 1) + job.side * ((c >> 1 & 1) + job.side * (c >> 2));
    const vi row = gather_i(job.index + step, base);
    const vi kept = (vi)((vu)row < splat_u(static_cast<uint32_t>(job.rows)));
    store_i(place.row[c], select_i(kept, row, splat_i(-1)));
  }
  for (int p = 0; p < count; ++p) {
    for (int c = 0; c < 8; ++c) {
      if (place.row[c][p] < 0) continue;
      const float* row = table + static_cast<int64_t>(place.row[c][p]) * job.channels;
      for (int k = 0; k < job.channels; k += 16) __builtin_prefetch(row + k);
      __builtin_prefetch(row + job.channels - 1);
    }
  }
}

PF_INLINE bool has_nan(const Place& place, int p) { return place.weight[0][p] != place.weight[0][p]; }
PF_INLINE bool is_empty(const Place& place, int p) {
  int32_t all = -1;
  for (int c = 0; c < 8; ++c) all &= place.row[c][p];
  return all == -1;
}

// The values of a point's corners.
struct Corners {
  const float* of[8];
};
PF_INLINE Corners corners_of(const SparseGridJob& job, const Place& place, int p) {
  Corners corners;
  for (int c = 0; c < 8; ++c) {
    const int64_t row = place.row[c][p];
    corners.of[c] = row < 0 ? nothing : job.table + row * job.channels;
  }
  return corners;
}

// Calls body(first point, count, place) for all blocks of W points; memory is asked for two blocks ahead.
template <class Body>
PF_INLINE void each_block(const SparseGridJob& job, const float* x, const float* table, int64_t begin, int64_t end, Body&& body) {
  Place places[3];
  if (begin < end) locate(job, x, begin, block_size(begin, end), places[0]);
  if (begin + W < end) locate(job, x, begin + W, block_size(begin + W, end), places[1]);
  if (begin < end) resolve(job, block_size(begin, end), table, places[0]);
  int now = 0;
  for (int64_t n = begin; n < end; n += W, now = now == 2 ? 0 : now + 1) {
    const int next = now == 2 ? 0 : now + 1, after = next == 2 ? 0 : next + 1;
    if (n + 2 * W < end) locate(job, x, n + 2 * W, block_size(n + 2 * W, end), places[after]);
    if (n + W < end) resolve(job, block_size(n + W, end), table, places[next]);
    body(n, block_size(n, end), places[now]);
  }
}

void forward(const SparseGridJob& job, const float* x, float* out, int64_t begin, int64_t end) {
  const int blocks = block_count(job.channels);
  each_block(job, x, job.table, begin, end, [&](int64_t n, int count, const Place& place) {
    for (int p = 0; p < count; ++p) {
      float* to = out + (n + p) * job.channels;
      const bool empty = is_empty(place, p);
      const Corners corners = corners_of(job, place, p);
      for (int b = 0; b < blocks; ++b) {
        const Block block = block_of(job.channels, b);
        vf sum = splat(has_nan(place, p) ? __builtin_nanf("") : 0.f);
        if (!empty) {
          sum = place.weight[0][p] * read(corners.of[0], block);
          for (int c = 1; c < 8; ++c) sum = fma(splat(place.weight[c][p]), read(corners.of[c], block), sum);
        }
        write(to, sum, block);
      }
    }
  });
}

// Of corner c's weight, along axis a.
PF_INLINE float weight_slope(const Place& place, int c, int a, int p) {
  float slope = c >> a & 1 ? place.slope[a][p] : -place.slope[a][p];
  for (int e = 0; e < 3; ++e)
    if (e != a) slope *= c >> e & 1 ? place.t[e][p] : 1.f - place.t[e][p];
  return slope;
}

void points(const SparseGridJob& job, const float* x, const float* upstream, float* out, int64_t begin, int64_t end) {
  const int blocks = block_count(job.channels);
  each_block(job, x, job.table, begin, end, [&](int64_t n, int count, const Place& place) {
    for (int p = 0; p < count; ++p) {
      float* to = out + (n + p) * 3;
      to[0] = to[1] = to[2] = 0.f;
      if (has_nan(place, p) || is_empty(place, p)) continue;
      const float* from = upstream + (n + p) * job.channels;
      const Corners corners = corners_of(job, place, p);
      vf worth[8] = {};  // of each corner's weight
      for (int b = 0; b < blocks; ++b) {
        const Block block = block_of(job.channels, b);
        const vf g = read_own(from, block);
        for (int c = 0; c < 8; ++c) worth[c] = fma(g, read(corners.of[c], block), worth[c]);
      }
      for (int c = 0; c < 8; ++c) {
        const float total = sum(worth[c]);
        for (int a = 0; a < 3; ++a) to[a] += weight_slope(place, c, a, p) * total;
      }
    }
  });
}

PF_INLINE void mark(uint8_t* touched, int64_t from, int64_t count) {
  // Two threads may mark the line in which their rows meet; the store is a plain one.
  for (int64_t line = from / 16; line <= (from + count - 1) / 16; ++line) __atomic_store_n(touched + line, 1, __ATOMIC_RELAXED);
}

void scatter(const SparseGridJob& job, const float* x, const float* upstream, int64_t points, int32_t first, int32_t last,
             float* values, uint8_t* touched) {
  const int blocks = block_count(job.channels);
  each_block(job, x, values, 0, points, [&](int64_t n, int count, const Place& place) {
    for (int p = 0; p < count; ++p) {
      if (place.layer[p] + 1 < first || place.layer[p] >= last || has_nan(place, p)) continue;
      const float* from = upstream + (n + p) * job.channels;
      for (int c = 0; c < 8; ++c) {
        const int32_t layer = place.layer[p] + (c >> 2);
        if (place.row[c][p] < 0 || layer < first || layer >= last) continue;
        const int64_t at = static_cast<int64_t>(place.row[c][p]) * job.channels;
        for (int b = 0; b < blocks; ++b) {
          const Block block = block_of(job.channels, b);
          write(values + at, fma(splat(place.weight[c][p]), read_own(from, block), read(values + at, block)), block);
        }
        if (touched != nullptr) mark(touched, at, job.channels);
      }
    }
  });
}

PF_INLINE vf root(vf x) {
  float lane[W];
  store(lane, x);
  for (int i = 0; i < W; ++i) lane[i] = __builtin_sqrtf(lane[i]);
  return load(lane);
}

void variation(const SparseGridJob& job, const SparseGridVariation& penalty, int64_t first, int64_t last, float* values,
               uint8_t* touched) {
  const int blocks = block_count(job.channels);
  const int32_t strides[3] = {1, job.side, job.side * job.side};
  const auto row_at = [&](int32_t place) {
    const int32_t row = job.index[place];
    return static_cast<uint32_t>(row) < static_cast<uint32_t>(job.rows) ? row : -1;
  };
  for (int64_t n = 0; n < penalty.count; ++n) {
    const int32_t vertex = penalty.vertices[n], row = row_at(vertex);
    if (row < 0) continue;
    int64_t rows[4] = {row, -1, -1, -1};  // of the vertex and the next along each axis
    bool beyond[3], mine = false;
    for (int a = 0; a < 3; ++a) {
      beyond[a] = vertex / strides[a] % job.side == job.side - 1;
      if (!beyond[a]) rows[a + 1] = row_at(vertex + strides[a]);
    }
    for (int64_t r : rows) mine |= r >= first && r < last;
    if (!mine) continue;
    const float* here = job.table + rows[0] * job.channels;
    for (int b = 0; b < blocks; ++b) {
      const Block block = block_of(job.channels, b);
      const vf own = read(here, block);
      vf change[3], square = splat(penalty.eps);
      for (int a = 0; a < 3; ++a) {
        const float* next = beyond[a] ? here : rows[a + 1] < 0 ? nothing : job.table + rows[a + 1] * job.channels;
        change[a] = penalty.scale * (read(next, block) - own);
        square = fma(change[a], change[a], square);
      }
      const vf factor = penalty.scale * read_own(penalty.weights, block) / root(square);
      for (int r = 0; r < 4; ++r) {
        if (rows[r] < first || rows[r] >= last) continue;
        float* to = values + rows[r] * job.channels;
        const vf slope = r == 0 ? -(change[0] + change[1] + change[2]) : change[r - 1];
        write(to, fma(factor, slope, read(to, block)), block);
      }
    }
    for (int64_t r : rows)
      if (touched != nullptr && r >= first && r < last) mark(touched, r * job.channels, job.channels);
  }
}

}  // namespace

const SparseGridKernels sparse_grid = {forward, points, scatter, variation};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
