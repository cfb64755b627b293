// Spherical harmonics: a thread a direction, the same straight code as on the CPU.
#include <type_traits>

#include "cuda/kernels.h"
#include "math/spherical_harmonics.h"

namespace polyfield {
namespace cuda {
namespace {

constexpr int sh_threads = 128;

template <int Degree>
__global__ void sh_forward(const float* directions, float* out, int64_t count) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (i >= count) return;
  float values[Degree * Degree];
  sh_values<Degree>(directions[3 * i], directions[3 * i + 1], directions[3 * i + 2], values);
  for (int f = 0; f < Degree * Degree; ++f) out[i * (Degree * Degree) + f] = values[f];
}

template <int Degree>
__global__ void sh_backward(const float* directions, const float* gradient, float* out, int64_t count) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (i >= count) return;
  float g[Degree * Degree], to[3];
  for (int f = 0; f < Degree * Degree; ++f) g[f] = gradient[i * (Degree * Degree) + f];
  sh_gradient<Degree>(directions[3 * i], directions[3 * i + 1], directions[3 * i + 2], g, to);
  for (int d = 0; d < 3; ++d) out[3 * i + d] = to[d];
}

// Calls body with the degree as a constant.
template <int Degree = 1, class Body>
void with_degree(int degree, Body&& body) {
  if constexpr (Degree <= 8) {
    if (degree == Degree)
      body(std::integral_constant<int, Degree>());
    else
      with_degree<Degree + 1>(degree, body);
  }
}

}  // namespace

void spherical_harmonics_forward(const float* directions, float* out, int64_t count, int degree, Stream stream) {
  if (count == 0) return;
  with_degree(degree, [&](auto fixed) {
    const auto kernel = sh_forward<decltype(fixed)::value>;
    POLYFIELD_LAUNCH(kernel, blocks_for(count, sh_threads), sh_threads, 0, stream, directions, out, count);
  });
}

void spherical_harmonics_backward(const float* directions, const float* gradient, float* out, int64_t count, int degree,
                                  Stream stream) {
  if (count == 0) return;
  with_degree(degree, [&](auto fixed) {
    const auto kernel = sh_backward<decltype(fixed)::value>;
    POLYFIELD_LAUNCH(kernel, blocks_for(count, sh_threads), sh_threads, 0, stream, directions, gradient, out, count);
  });
}

}  // namespace cuda
}  // namespace polyfield
