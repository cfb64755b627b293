#include "kernels/rbf.h"

#include "simd.h"
#include "sine.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

constexpr int ahead = 4;  // points whose rows are asked for before they are needed

PF_INLINE vf read(const float* p, int left) { return left >= W ? load(p) : load_part(p, left); }
PF_INLINE void write(float* p, vf v, int left) {
  if (left >= W)
    store(p, v);
  else
    store_part(p, v, left);
}

PF_INLINE int block_size(int64_t begin, int64_t end) { return end - begin < W ? static_cast<int>(end - begin) : W; }

// The kernels of W points: how near each point is to its k-th neighbour, and what all are divided by.
struct Weights {
  float near[rbf_most_neighbours][W];
  float inverse[W];
};

template <int D>
PF_INLINE void offset(const RbfJob& job, int64_t point, int32_t id, float* u) {
  for (int d = 0; d < D; ++d) u[d] = (job.x[point * D + d] - job.centres[int64_t{id} * D + d]) * job.extent[d];
}

// S u, S being given by its upper triangle.
template <int D>
PF_INLINE void shaped(const float* shape, const float* u, float* to) {
  for (int d = 0; d < D; ++d) to[d] = 0.f;
  for (int d = 0; d < D; ++d) {
    to[d] += *shape++ * u[d];
    for (int e = d + 1; e < D; ++e, ++shape) {
      to[d] += *shape * u[e];
      to[e] += *shape * u[d];
    }
  }
}

PF_INLINE float ramp(float slope, float u) {
  const float t = 1.f - slope * (u < 0.f ? -u : u);
  return t > 0.f ? t : 0.f;
}

// What a kernel is a function of: the tent's own value, the form u S u of the others.
template <int D, RbfKernel K>
PF_INLINE float measure(const RbfJob& job, int64_t point, int32_t id) {
  float u[D];
  offset<D>(job, point, id, u);
  if constexpr (K == RbfKernel::tent) {
    float product = 1.f;
    for (int d = 0; d < D; ++d) product *= ramp(job.shapes[id], u[d]);
    return product;
  } else {
    float su[D], sum = 0.f;
    shaped<D>(job.shapes + int64_t{id} * (D * (D + 1) / 2), u, su);
    for (int d = 0; d < D; ++d) sum += u[d] * su[d];
    return sum;
  }
}

template <RbfKernel K>
PF_INLINE vf nearness(vf measured) {
  if constexpr (K == RbfKernel::inverse_quadratic) return splat(1.f) / (splat(1.f) + measured);
  if constexpr (K == RbfKernel::gaussian) return exp(splat(-0.5f) * measured);
  if constexpr (K == RbfKernel::inverse_multiquadric) {
    vf root;
    for (int i = 0; i < W; ++i) root[i] = __builtin_sqrtf(1.f + measured[i]);
    return splat(1.f) / root;
  }
  return measured;
}

template <int D, RbfKernel K>
PF_INLINE void weigh(const RbfJob& job, int64_t point, int count, Weights& weights) {
  vf sum = {};
  for (int k = 0; k < job.neighbours; ++k) {
    vf measured = {};
    float lanes[W] = {};
    for (int p = 0; p < count; ++p) {
      const int32_t id = job.ids[(point + p) * job.neighbours + k];
      lanes[p] = id < 0 ? __builtin_nanf("") : measure<D, K>(job, point + p, id);
    }
    measured = load(lanes);
    const vf near = nearness<K>(measured);
    store(weights.near[k], near);
    sum += near;
  }
  store(weights.inverse, job.normalise ? splat(1.f) / (sum + splat(1e-8f)) : splat(1.f));
}

PF_INLINE const float* row_of(const RbfJob& job, int64_t point, int k) {
  const int32_t id = job.ids[point * job.neighbours + k];
  return job.features + int64_t{id < 0 ? 0 : id} * job.channels;
}

PF_INLINE void ask_for(const RbfJob& job, int64_t point) {
  for (int k = 0; k < job.neighbours; ++k) {
    const float* row = row_of(job, point, k);
    for (int f = 0; f < job.channels && f < 64; f += 16) __builtin_prefetch(row + f);
  }
}

template <bool SINES>
PF_INLINE void combine(const RbfJob& job, int64_t point, const Weights& weights, int lane, float* to) {
  const float* rows[rbf_most_neighbours];
  float weight[rbf_most_neighbours];
  int count = 0;  // of kernels that reach the point: tents end, and so does what they hold
  for (int k = 0; k < job.neighbours; ++k) {
    rows[count] = row_of(job, point, k);
    weight[count] = weights.near[k][lane] * weights.inverse[lane];
    count += weight[count] != 0.f;
  }
  for (int f = 0; f < job.channels; f += W) {
    const int left = job.channels - f;
    const vf frequency = SINES ? read(job.frequencies + f, left) : splat(1.f);
    vf sum = {};
    for (int k = 0; k < count; ++k) {
      const vf factor = SINES ? sine(frequency * weight[k]) : splat(weight[k]);
      sum = fma(factor, read(rows[k] + f, left), sum);
    }
    write(to + f, sum, left);
  }
}

template <int D, RbfKernel K>
void forward_of(const RbfJob& job, float* out, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; n += W) {
    const int count = block_size(n, end);
    for (int p = 0; p < ahead && p < count; ++p) ask_for(job, n + p);
    Weights weights;
    weigh<D, K>(job, n, count, weights);
    for (int p = 0; p < count; ++p) {
      if (n + p + ahead < end) ask_for(job, n + p + ahead);
      float* to = out + (n + p) * job.channels;
      if (job.frequencies != nullptr)
        combine<true>(job, n + p, weights, p, to);
      else
        combine<false>(job, n + p, weights, p, to);
    }
  }
}

// The derivative of what `forward` gives by the weight of one neighbour, times upstream.
PF_INLINE float slope(const RbfJob& job, const float* row, float weight, const float* upstream) {
  vf total = {};
  for (int f = 0; f < job.channels; f += W) {
    const int left = job.channels - f;
    vf part = read(upstream + f, left) * read(row + f, left);
    if (job.frequencies != nullptr) {
      const vf frequency = read(job.frequencies + f, left);
      vf sines, cosines;
      sin_cos(frequency * weight, sines, cosines);
      part *= frequency * cosines;
    }
    total += part;
  }
  return sum(total);
}

// Adds `scale` times the derivative of a kernel by the point; `near` is its value there.
template <int D, RbfKernel K>
PF_INLINE void add_direction(const RbfJob& job, int64_t point, int32_t id, float near, float scale, float* to) {
  float u[D], su[D];
  offset<D>(job, point, id, u);
  if constexpr (K == RbfKernel::tent) {
    const float steep = job.shapes[id];
    for (int d = 0; d < D; ++d) {
      float change = ramp(steep, u[d]) > 0.f ? (u[d] > 0.f ? -steep : u[d] < 0.f ? steep : 0.f) : 0.f;
      for (int e = 0; e < D; ++e)
        if (e != d) change *= ramp(steep, u[e]);
      to[d] += scale * change * job.extent[d];
    }
  } else {
    shaped<D>(job.shapes + int64_t{id} * (D * (D + 1) / 2), u, su);
    float by_form = -0.5f * near;  // the Gaussian's
    if constexpr (K == RbfKernel::inverse_quadratic) by_form = -near * near;
    if constexpr (K == RbfKernel::inverse_multiquadric) by_form = -0.5f * near * near * near;
    for (int d = 0; d < D; ++d) to[d] += scale * by_form * 2.f * su[d] * job.extent[d];
  }
}

template <int D, RbfKernel K>
void points_of(const RbfJob& job, const float* upstream, float* out, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; n += W) {
    const int count = block_size(n, end);
    for (int p = 0; p < ahead && p < count; ++p) ask_for(job, n + p);
    Weights weights;
    weigh<D, K>(job, n, count, weights);
    for (int p = 0; p < count; ++p) {
      if (n + p + ahead < end) ask_for(job, n + p + ahead);
      float to[D] = {};
      for (int k = 0; k < job.neighbours; ++k) {
        const int32_t id = job.ids[(n + p) * job.neighbours + k];
        if (id < 0) continue;
        const float near = weights.near[k][p], inverse = weights.inverse[p];
        const float by_weight = slope(job, row_of(job, n + p, k), near * inverse, upstream + (n + p) * job.channels);
        add_direction<D, K>(job, n + p, id, near, by_weight * inverse, to);
      }
      for (int d = 0; d < D; ++d) out[(n + p) * D + d] = to[d];
    }
  }
}

PF_INLINE int slice_of(const RbfJob& job, int32_t id) {
  const int64_t rows = (job.rows + rbf_slices - 1) / rbf_slices;
  return static_cast<int>(static_cast<uint32_t>(id) / static_cast<uint32_t>(rows));
}

template <int D, RbfKernel K>
void sort_of(const RbfJob& job, int64_t begin, int64_t end, float* weights, uint16_t* pairs, int32_t* starts) {
  for (int64_t n = begin; n < end; n += W) {
    const int count = block_size(n, end);
    Weights block;
    weigh<D, K>(job, n, count, block);
    for (int p = 0; p < count; ++p)
      for (int k = 0; k < job.neighbours; ++k)
        weights[(n - begin + p) * job.neighbours + k] = block.near[k][p] * block.inverse[p];
  }
  const int32_t* ids = job.ids + begin * job.neighbours;
  const int64_t count = (end - begin) * job.neighbours;
  uint8_t slices[rbf_piece * rbf_most_neighbours];
  int32_t next[rbf_slices + 1] = {};
  const auto counts = [&](int64_t i) { return ids[i] >= 0 && weights[i] != 0.f; };
  for (int64_t i = 0; i < count; ++i) {
    if (!counts(i)) continue;
    slices[i] = static_cast<uint8_t>(slice_of(job, ids[i]));
    ++next[slices[i] + 1];
  }
  starts[0] = 0;
  for (int s = 0; s < rbf_slices; ++s) starts[s + 1] = next[s + 1] += next[s];
  for (int64_t p = 0, i = 0; p < end - begin; ++p)
    for (int k = 0; k < job.neighbours; ++k, ++i)
      if (counts(i)) pairs[next[slices[i]]++] = static_cast<uint16_t>(16 * p + k);
}

PF_INLINE void mark(uint8_t* touched, int64_t from, int64_t count) {
  // Rows of two slices can share a line, and two threads may mark it at once; the store is a plain one.
  for (int64_t line = from / 16; line <= (from + count - 1) / 16; ++line) __atomic_store_n(touched + line, 1, __ATOMIC_RELAXED);
}

template <bool SINES>
PF_INLINE void scatter_pairs(const RbfJob& job, int64_t begin, int slice, const float* weights, const uint16_t* pairs,
                             const int32_t* starts, const float* upstream, float* values, uint8_t* touched) {
  for (int32_t i = starts[slice]; i < starts[slice + 1]; ++i) {
    if (i + ahead < starts[slice + 1]) {
      const float* soon = upstream + (begin + (pairs[i + ahead] >> 4)) * job.channels;
      for (int f = 0; f < job.channels && f < 64; f += 16) __builtin_prefetch(soon + f);
    }
    const int64_t point = pairs[i] >> 4, pair = point * job.neighbours + (pairs[i] & 15);
    const int64_t row = int64_t{job.ids[begin * job.neighbours + pair]} * job.channels;
    const float* from = upstream + (begin + point) * job.channels;
    for (int f = 0; f < job.channels; f += W) {
      const int left = job.channels - f;
      const vf factor = SINES ? sine(read(job.frequencies + f, left) * weights[pair]) : splat(weights[pair]);
      write(values + row + f, fma(factor, read(from + f, left), read(values + row + f, left)), left);
    }
    if (touched != nullptr) mark(touched, row, job.channels);
  }
}

void scatter(const RbfJob& job, int64_t begin, int slice, const float* weights, const uint16_t* pairs,
             const int32_t* starts, const float* upstream, float* values, uint8_t* touched) {
  if (job.frequencies != nullptr)
    scatter_pairs<true>(job, begin, slice, weights, pairs, starts, upstream, values, touched);
  else
    scatter_pairs<false>(job, begin, slice, weights, pairs, starts, upstream, values, touched);
}

// Calls body<D, K>() for the job's numbers.
template <int D, class Body>
PF_INLINE void with_kernel(const RbfJob& job, Body&& body) {
  switch (job.kernel) {
    case RbfKernel::inverse_quadratic: body.template call<D, RbfKernel::inverse_quadratic>(); break;
    case RbfKernel::inverse_multiquadric: body.template call<D, RbfKernel::inverse_multiquadric>(); break;
    case RbfKernel::gaussian: body.template call<D, RbfKernel::gaussian>(); break;
    default: body.template call<D, RbfKernel::tent>();
  }
}

template <class Body>
PF_INLINE void with_sizes(const RbfJob& job, Body&& body) {
  switch (job.dim) {
    case 1: with_kernel<1>(job, body); break;
    case 2: with_kernel<2>(job, body); break;
    default: with_kernel<3>(job, body);
  }
}

struct Forward {
  const RbfJob& job;
  float* out;
  int64_t begin, end;
  template <int D, RbfKernel K>
  void call() { forward_of<D, K>(job, out, begin, end); }
};

struct Points {
  const RbfJob& job;
  const float* upstream;
  float* out;
  int64_t begin, end;
  template <int D, RbfKernel K>
  void call() { points_of<D, K>(job, upstream, out, begin, end); }
};

struct Sort {
  const RbfJob& job;
  int64_t begin, end;
  float* weights;
  uint16_t* pairs;
  int32_t* starts;
  template <int D, RbfKernel K>
  void call() { sort_of<D, K>(job, begin, end, weights, pairs, starts); }
};

void forward(const RbfJob& job, float* out, int64_t begin, int64_t end) {
  with_sizes(job, Forward{job, out, begin, end});
}

void points(const RbfJob& job, const float* upstream, float* out, int64_t begin, int64_t end) {
  with_sizes(job, Points{job, upstream, out, begin, end});
}

void sort(const RbfJob& job, int64_t begin, int64_t end, float* weights, uint16_t* pairs, int32_t* starts) {
  with_sizes(job, Sort{job, begin, end, weights, pairs, starts});
}

}  // namespace

const RbfKernels rbf = {forward, points, sort, scatter};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
