#include "kernels/factor_grid.h"

#include "simd.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

constexpr int most_corners = 1 << factor_grid_most_axes;

// Where W points lie in one factor.
struct Place {
  int32_t base[W];  // row of the lowest corner
  float t[factor_grid_most_axes][W];      // from there to the next, in [0, 1]; NaN for NaN
  float slope[factor_grid_most_axes][W];  // of t along its axis: 0 where the point was clamped or is NaN
  float weight[most_corners][W];
};

// What is the same for all points: how many rows a corner lies beyond the lowest.
struct Steps {
  int corners;
  int32_t of[most_corners];
};

PF_INLINE int block_size(int64_t begin, int64_t end) { return end - begin < W ? static_cast<int>(end - begin) : W; }
PF_INLINE vf read(const float* p, int left) { return left >= W ? load(p) : load_part(p, left); }
PF_INLINE void write(float* p, vf v, int left) {
  if (left >= W)
    store(p, v);
  else
    store_part(p, v, left);
}

PF_INLINE Steps steps_of(const FactorGridFactor& factor) {
  Steps steps = {1 << factor.axes, {}};
  for (int a = 0, stride = 1; a < factor.axes; stride *= factor.side[a++])
    for (int c = 0; c < steps.corners; ++c)
      if (c >> a & 1) steps.of[c] += stride;
  return steps;
}

PF_INLINE void find(const FactorGridJob& job, const FactorGridFactor& factor, int64_t point, int count, Place& place) {
  vi base = {};
  vf t[factor_grid_most_axes];
  int32_t stride = 1;
  for (int a = 0; a < factor.axes; ++a) {
    vf x = {};
    for (int p = 0; p < count; ++p) x[p] = job.x[(point + p) * job.dim + factor.axis[a]];
    const float last = static_cast<float>(factor.side[a] - 1);
    const vf q = last * min(max(x, splat(0.f)), splat(1.f));  // a NaN counts as 0
    const vf cell = min(floor(q), splat(last - 1.f));
    t[a] = select(x == x, q - cell, splat(__builtin_nanf("")));
    base += stride * to_int(cell);
    stride *= factor.side[a];
    store(place.t[a], t[a]);
    store(place.slope[a], select((x >= splat(0.f)) & (x <= splat(1.f)), splat(last), splat(0.f)));
  }
  store_i(place.base, base);
  for (int c = 0; c < 1 << factor.axes; ++c) {
    vf weight = splat(1.f);
    for (int a = 0; a < factor.axes; ++a) weight = weight * (c >> a & 1 ? t[a] : splat(1.f) - t[a]);
    store(place.weight[c], weight);
  }
}

PF_INLINE const float* lowest(const FactorGridJob& job, const FactorGridFactor& factor, const Place& place, int p) {
  return job.table + (factor.row + place.base[p]) * job.channels;
}

template <int N>
PF_INLINE vf interpolate_corners(const float* low, int64_t channels, const Steps& steps, const Place& place, int p, int left) {
  vf sum = place.weight[0][p] * read(low, left);
  for (int c = 1; c < N; ++c) sum = fma(splat(place.weight[c][p]), read(low + steps.of[c] * channels, left), sum);
  return sum;
}

PF_INLINE vf interpolate(const float* low, int64_t channels, const Steps& steps, const Place& place, int p, int left) {
  switch (steps.corners) {
    case 2: return interpolate_corners<2>(low, channels, steps, place, p, left);
    case 4: return interpolate_corners<4>(low, channels, steps, place, p, left);
    default: return interpolate_corners<8>(low, channels, steps, place, p, left);
  }
}

// The factors of one group.
struct Group {
  const FactorGridFactor* factors;
  int count;
  Steps steps[factor_grid_most_factors];
};

PF_INLINE Group group_from(const FactorGridJob& job, int first) {
  Group group = {job.factors + first, 0, {}};
  while (first + group.count < job.factor_count && group.factors[group.count].group == group.factors[0].group) {
    group.steps[group.count] = steps_of(group.factors[group.count]);
    ++group.count;
  }
  return group;
}

PF_INLINE void find_all(const FactorGridJob& job, const Group& group, int64_t point, int count, Place* places) {
  for (int f = 0; f < group.count; ++f) {
    find(job, group.factors[f], point, count, places[f]);
    for (int p = 0; p < count; ++p) {
      const float* low = lowest(job, group.factors[f], places[f], p);
      for (int c = 0; c < group.steps[f].corners; ++c)
        __builtin_prefetch(low + static_cast<int64_t>(group.steps[f].of[c]) * job.channels);
    }
  }
}

// Calls body(first point, count, places) for all blocks of W points, the rows of the next ones being asked for already.
template <class Body>
PF_INLINE void each_block(const FactorGridJob& job, const Group& group, int64_t begin, int64_t end, Body&& body) {
  Place places[2][factor_grid_most_factors];
  int now = 0;
  if (begin < end) find_all(job, group, begin, block_size(begin, end), places[0]);
  for (int64_t n = begin; n < end; n += W, now ^= 1) {
    if (n + W < end) find_all(job, group, n + W, block_size(n + W, end), places[now ^ 1]);
    body(n, block_size(n, end), places[now]);
  }
}

void forward(const FactorGridJob& job, float* out, int64_t begin, int64_t end) {
  const int64_t channels = job.channels, width = channels * job.group_count;
  for (int first = 0, g = 0; first < job.factor_count; ++g) {
    const Group group = group_from(job, first);
    first += group.count;
    each_block(job, group, begin, end, [&](int64_t n, int count, const Place* places) {
      for (int p = 0; p < count; ++p) {
        float* to = out + (n + p) * width + g * channels;
        for (int64_t k = 0; k < channels; k += W) {
          const int left = static_cast<int>(channels - k);
          vf product = interpolate(lowest(job, group.factors[0], places[0], p) + k, channels, group.steps[0], places[0], p, left);
          for (int f = 1; f < group.count; ++f)
            product *= interpolate(lowest(job, group.factors[f], places[f], p) + k, channels, group.steps[f], places[f], p, left);
          write(to + k, product, left);
        }
      }
    });
  }
}

// Of corner c's weight, along axis a.
PF_INLINE float weight_slope(const Place& place, int axes, int c, int a, int p) {
  float slope = c >> a & 1 ? place.slope[a][p] : -place.slope[a][p];
  for (int e = 0; e < axes; ++e)
    if (e != a) slope *= c >> e & 1 ? place.t[e][p] : 1.f - place.t[e][p];
  return slope;
}

PF_INLINE bool has_nan(const Group& group, const Place* places, int p) {
  float sum = 0.f;
  for (int f = 0; f < group.count; ++f)
    for (int a = 0; a < group.factors[f].axes; ++a) sum += places[f].t[a][p];
  return sum != sum;
}

// The product of what all factors but one interpolate.
PF_INLINE vf others(const FactorGridJob& job, const Group& group, const Place* places, int but, int p, int64_t k, int left) {
  vf product = splat(1.f);
  for (int f = 0; f < group.count; ++f)
    if (f != but)
      product *= interpolate(lowest(job, group.factors[f], places[f], p) + k, job.channels, group.steps[f], places[f], p, left);
  return product;
}

void points(const FactorGridJob& job, const float* upstream, float* out, int64_t begin, int64_t end) {
  const int64_t channels = job.channels, width = channels * job.group_count;
  for (int64_t i = begin * job.dim; i < end * job.dim; ++i) out[i] = 0.f;
  for (int first = 0, g = 0; first < job.factor_count; ++g) {
    const Group group = group_from(job, first);
    first += group.count;
    each_block(job, group, begin, end, [&](int64_t n, int count, const Place* places) {
      for (int p = 0; p < count; ++p) {
        if (has_nan(group, places, p)) continue;
        const float* from = upstream + (n + p) * width + g * channels;
        vf along[factor_grid_most_dim] = {};
        for (int64_t k = 0; k < channels; k += W) {
          const int left = static_cast<int>(channels - k);
          for (int f = 0; f < group.count; ++f) {
            const FactorGridFactor& factor = group.factors[f];
            const float* low = lowest(job, factor, places[f], p) + k;
            const vf to = read(from + k, left) * others(job, group, places, f, p, k, left);
            for (int a = 0; a < factor.axes; ++a) {
              vf change = {};
              for (int c = 0; c < group.steps[f].corners; ++c)
                change += weight_slope(places[f], factor.axes, c, a, p) * read(low + group.steps[f].of[c] * channels, left);
              along[factor.axis[a]] += to * change;
            }
          }
        }
        for (int d = 0; d < job.dim; ++d) out[(n + p) * job.dim + d] += sum(along[d]);
      }
    });
  }
}

PF_INLINE void mark(uint8_t* touched, int64_t from, int64_t count) {
  // Factors can share a line, and two threads may mark it at once; the store is a plain one.
  for (int64_t line = from / 16; line <= (from + count - 1) / 16; ++line) __atomic_store_n(touched + line, 1, __ATOMIC_RELAXED);
}

void scatter(const FactorGridJob& job, int chosen, const float* upstream, int64_t points, float* values, uint8_t* touched) {
  int first = chosen, g = job.factors[chosen].group;
  while (first > 0 && job.factors[first - 1].group == g) --first;
  const Group group = group_from(job, first);
  const int f = chosen - first;
  const FactorGridFactor& factor = group.factors[f];
  const Steps& steps = group.steps[f];
  const int64_t channels = job.channels, width = channels * job.group_count;
  each_block(job, group, 0, points, [&](int64_t n, int count, const Place* places) {
    for (int p = 0; p < count; ++p) {
      if (has_nan(group, places, p)) continue;
      const float* from = upstream + (n + p) * width + g * channels;
      const int64_t low = (factor.row + places[f].base[p]) * channels;
      for (int64_t k = 0; k < channels; k += W) {
        const int left = static_cast<int>(channels - k);
        const vf to = read(from + k, left) * others(job, group, places, f, p, k, left);
        for (int c = 0; c < steps.corners; ++c) {
          float* row = values + low + steps.of[c] * channels + k;
          write(row, fma(splat(places[f].weight[c][p]), to, read(row, left)), left);
        }
      }
      if (touched != nullptr)
        for (int c = 0; c < steps.corners; ++c) mark(touched, low + steps.of[c] * channels, channels);
    }
  });
}

}  // namespace

const FactorGridKernels factor_grid = {forward, points, scatter};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
