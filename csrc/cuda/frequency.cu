// Frequency encoding: a thread a sine and its cosine; backwards a thread a coordinate.
#include "cuda/kernels.h"
#include "math/frequency.h"

namespace polyfield {
namespace cuda {
namespace {

constexpr int frequency_threads = 256;

__device__ __forceinline__ void sin_cos_pi(float t, float* sine, float* cosine) {
  t -= 2.f * floorf(t * 0.5f);
  const float half_turns = floorf(t * 2.f + 0.5f);
  float s, c;
  sin_cos_pi_from(t, half_turns, &s, &c);
  const int q = half_turns == half_turns ? static_cast<int>(half_turns) : 0;
  const float first = q & 1 ? c : s, second = q & 1 ? s : c;
  *sine = q & 2 ? -first : first;
  *cosine = (q + 1) & 2 ? -second : second;
}

__global__ void frequency_values(const float* x, float* out, int64_t count, FrequencyShape shape) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  const int dim = shape.dim, parts = shape.octaves + (shape.include_input ? 1 : 0);
  if (i >= count * parts * dim) return;
  const int d = static_cast<int>(i % dim);
  int part = static_cast<int>(i / dim % parts);
  const int64_t n = i / (static_cast<int64_t>(dim) * parts);
  const float value = x[n * dim + d];
  float* row = out + n * shape.dim * (2 * shape.octaves + (shape.include_input ? 1 : 0));
  if (shape.include_input) {
    if (part == 0) {
      row[d] = value;
      return;
    }
    row += dim;
    --part;
  }
  sin_cos_pi(ldexpf(value, part), row + 2 * part * dim + d, row + (2 * part + 1) * dim + d);
}

__global__ void frequency_gradient(const float* x, const float* gradient, float* out, int64_t count, FrequencyShape shape) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  const int dim = shape.dim;
  if (i >= count * dim) return;
  const float* g = gradient + i / dim * dim * (2 * shape.octaves + (shape.include_input ? 1 : 0)) + i % dim;
  float to = 0.f, scale = 1.f;
  if (shape.include_input) {
    to = *g;
    g += dim;
  }
  for (int k = 0; k < shape.octaves; ++k, scale *= 2.f, g += 2 * dim) {
    float s, c;
    sin_cos_pi(scale * x[i], &s, &c);
    to += scale * 3.14159265f * (c * g[0] - s * g[dim]);
  }
  out[i] = to;
}

}  // namespace

void frequency_forward(const float* x, float* out, int64_t count, FrequencyShape shape, Stream stream) {
  const int64_t threads = count * shape.dim * (shape.octaves + (shape.include_input ? 1 : 0));
  if (threads == 0) return;
  POLYFIELD_LAUNCH(frequency_values, blocks_for(threads, frequency_threads), frequency_threads, 0, stream, x, out, count,
                   shape);
}

void frequency_backward(const float* x, const float* gradient, float* out, int64_t count, FrequencyShape shape,
                        Stream stream) {
  if (count == 0) return;
  POLYFIELD_LAUNCH(frequency_gradient, blocks_for(count * shape.dim, frequency_threads), frequency_threads, 0, stream, x,
                   gradient, out, count, shape);
}

}  // namespace cuda
}  // namespace polyfield
