// Hash grid: a thread a point and level; the gradient of the table by atomics.
#include <type_traits>

#include "cuda/kernels.h"
#include "math/hash_grid.h"

namespace polyfield {
namespace cuda {
namespace {

constexpr int grid_threads = 256;

// The lattice cell of a point; see HashGridKernels for clamping and NaN.
template <int D>
struct Cell {
  uint32_t corner[D];
  float step[D], slope[D];  // weight of the upper corner along each axis, and its derivative by the coordinate
  bool valid;
};

template <int D>
__device__ __forceinline__ Cell<D> find_cell(const HashGridLevel& level, const float* x, bool smooth) {
  Cell<D> cell;
  cell.valid = true;
  for (int d = 0; d < D; ++d) cell.valid = cell.valid && x[d] == x[d];
  for (int d = 0; d < D; ++d) {
    const float value = cell.valid ? x[d] : 0.f;
    const float clamped = fminf(fmaxf(value, 0.f), 1.f);
    const float position = fmaf(level.scale, clamped, level.shift), whole = floorf(position);
    const float t = position - whole;
    cell.corner[d] = static_cast<uint32_t>(whole);
    cell.step[d] = hash_grid_step(t, smooth);
    cell.slope[d] = clamped == value ? level.scale * hash_grid_step_first(t, smooth) : 0.f;
  }
  return cell;
}

// Bit d of `corner` is its step along axis d.
template <int D>
__device__ __forceinline__ int64_t find_entry(const HashGridLevel& level, const Cell<D>& cell, int corner) {
  const bool hashed = level.rule == hashed_rule;
  uint32_t index = 0;
  for (int d = 0; d < D; ++d) {
    const uint32_t term = hash_grid_term(cell.corner[d] + (corner >> d & 1), d, hashed, level.stride);
    index = d == 0 ? term : hash_grid_join(index, term, hashed);
  }
  if (hashed)
    index &= level.entries - 1;
  else if (level.rule == dense_rule)
    index -= index >= level.entries ? level.entries : 0;
  else
    index %= level.entries;
  return level.offset + index;
}

template <int D>
__device__ __forceinline__ float weight_of(const Cell<D>& cell, int corner, int without) {
  float weight = 1.f;
  for (int d = 0; d < D; ++d)
    if (d != without) weight *= corner >> d & 1 ? cell.step[d] : 1.f - cell.step[d];
  return weight;
}

template <int D, int F>
__global__ void grid_forward(HashGridJob job, const float* table, float* out) {
  const int64_t n = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (n >= job.points) return;
  const HashGridLevel level = job.levels[blockIdx.y];
  const Cell<D> cell = find_cell<D>(level, job.x + n * D, job.smooth);
  float sum[F] = {};
  for (int corner = 0; corner < 1 << D; ++corner) {
    const float weight = weight_of(cell, corner, -1);
    const float* entry = table + find_entry(level, cell, corner) * F;
    for (int f = 0; f < F; ++f) sum[f] += weight * entry[f];
  }
  for (int f = 0; f < F; ++f) out[(blockIdx.y * F + f) * job.points + n] = cell.valid ? sum[f] : nanf("");
}

template <int D, int F>
__global__ void grid_scatter(HashGridJob job, HashGridUpstream upstream, float* values, uint8_t* touched) {
  const int64_t n = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (n >= job.points) return;
  const HashGridLevel level = job.levels[blockIdx.y];
  const Cell<D> cell = find_cell<D>(level, job.x + n * D, job.smooth);
  if (!cell.valid) return;
  float g[F];
  for (int f = 0; f < F; ++f)
    g[f] = upstream.data[(blockIdx.y * F + f) * upstream.feature_stride + n * upstream.point_stride];
  for (int corner = 0; corner < 1 << D; ++corner) {
    const float weight = weight_of(cell, corner, -1);
    const int64_t first = find_entry(level, cell, corner) * F;
    for (int f = 0; f < F; ++f) atomicAdd(values + first + f, weight * g[f]);
    if (touched != nullptr) touched[first / 16] = 1;  // whoever writes, writes the same
  }
}

template <int D, int F>
__global__ void grid_points(HashGridJob job, const float* table, HashGridUpstream upstream, float* out) {
  const int64_t n = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (n >= job.points) return;
  float to[D] = {};
  for (int l = 0; l < job.level_count; ++l) {
    const HashGridLevel level = job.levels[l];
    const Cell<D> cell = find_cell<D>(level, job.x + n * D, job.smooth);
    if (!cell.valid) break;
    for (int corner = 0; corner < 1 << D; ++corner) {
      const float* entry = table + find_entry(level, cell, corner) * F;
      float along = 0.f;
      for (int f = 0; f < F; ++f)
        along += entry[f] * upstream.data[(l * F + f) * upstream.feature_stride + n * upstream.point_stride];
      for (int d = 0; d < D; ++d) {
        const float rest = weight_of(cell, corner, d) * cell.slope[d];
        to[d] += along * (corner >> d & 1 ? rest : -rest);
      }
    }
  }
  for (int d = 0; d < D; ++d) out[n * D + d] = to[d];
}

// Calls body(D, F) with both as constants.
template <class Body>
void with_shape(const HashGridJob& job, Body&& body) {
#define POLYFIELD_CASE(D, F) \
  case D * 16 + F: return body(std::integral_constant<int, D>(), std::integral_constant<int, F>())
  switch (job.dim * 16 + job.features) {
    POLYFIELD_CASE(2, 1);
    POLYFIELD_CASE(2, 2);
    POLYFIELD_CASE(2, 4);
    POLYFIELD_CASE(2, 8);
    POLYFIELD_CASE(3, 1);
    POLYFIELD_CASE(3, 2);
    POLYFIELD_CASE(3, 4);
    POLYFIELD_CASE(3, 8);
    POLYFIELD_CASE(4, 1);
    POLYFIELD_CASE(4, 2);
    POLYFIELD_CASE(4, 4);
    POLYFIELD_CASE(4, 8);
    default: break;
  }
#undef POLYFIELD_CASE
}

}  // namespace

void hash_grid_forward(const HashGridJob& job, const float* table, float* out, Stream stream) {
  if (job.points == 0 || job.level_count == 0) return;
  const dim3 grid(blocks_for(job.points, grid_threads), job.level_count);
  with_shape(job, [&](auto d, auto f) {
    const auto kernel = grid_forward<decltype(d)::value, decltype(f)::value>;
    POLYFIELD_LAUNCH(kernel, grid, grid_threads, 0, stream, job, table, out);
  });
}

void hash_grid_scatter(const HashGridJob& job, HashGridUpstream upstream, float* values, uint8_t* touched, Stream stream) {
  if (job.points == 0 || job.level_count == 0) return;
  const dim3 grid(blocks_for(job.points, grid_threads), job.level_count);
  with_shape(job, [&](auto d, auto f) {
    const auto kernel = grid_scatter<decltype(d)::value, decltype(f)::value>;
    POLYFIELD_LAUNCH(kernel, grid, grid_threads, 0, stream, job, upstream, values, touched);
  });
}

void hash_grid_points(const HashGridJob& job, const float* table, HashGridUpstream upstream, float* out, Stream stream) {
  if (job.points == 0) return;
  with_shape(job, [&](auto d, auto f) {
    const auto kernel = grid_points<decltype(d)::value, decltype(f)::value>;
    POLYFIELD_LAUNCH(kernel, blocks_for(job.points, grid_threads), grid_threads, 0, stream, job, table, upstream, out);
  });
}

}  // namespace cuda
}  // namespace polyfield
