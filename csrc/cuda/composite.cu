// Compositing: a warp a ray, 32 samples at a time, running sums by shuffles.
#include "cuda/kernels.h"
#include "math/composite.h"

namespace polyfield {
namespace cuda {
namespace {

constexpr int rays_per_block = 4;

__device__ __forceinline__ float warp_sum(float value) {
  for (int by = 16; by > 0; by /= 2) value += __shfl_xor_sync(full_warp, value, by);
  return value;
}

__global__ void composite_values(CompositeInputs in, CompositeOutputs out, int64_t rays) {
  const int64_t ray = blockIdx.x * static_cast<int64_t>(rays_per_block) + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (ray >= rays) return;
  const int64_t stop = in.offsets[ray + 1];
  float depth_before = 0.f, red = 0.f, green = 0.f, blue = 0.f, depth = 0.f, opacity = 0.f;
  for (int64_t first = in.offsets[ray]; first < stop; first += 32) {
    const int64_t n = first + lane;
    const bool here = n < stop;
    const float tau = here ? optical_depth(in.sigma[n], in.t0[n], in.t1[n]) : 0.f;
    float through = tau;  // of this sample and those before it in the warp
    for (int by = 1; by < 32; by *= 2) {
      const float other = __shfl_up_sync(full_warp, through, by);
      if (lane >= by) through += other;
    }
    // Shifted rather than `through - tau`: an infinite depth would cancel to NaN.
    const float shifted = __shfl_up_sync(full_warp, through, 1);
    const float before = depth_before + (lane > 0 ? shifted : 0.f);
    depth_before += __shfl_sync(full_warp, through, 31);
    if (!here) continue;
    const float w = expf(-before) * -expm1f(-tau);
    out.weights[n] = w;
    red += w * in.rgb[3 * n];
    green += w * in.rgb[3 * n + 1];
    blue += w * in.rgb[3 * n + 2];
    depth += w * (0.5f * (in.t0[n] + in.t1[n]));
    opacity += w;
  }
  red = warp_sum(red);
  green = warp_sum(green);
  blue = warp_sum(blue);
  depth = warp_sum(depth);
  opacity = warp_sum(opacity);
  if (lane > 0) return;
  const float left = expf(-depth_before);
  out.color[3 * ray] = red + left * in.background[3 * ray];
  out.color[3 * ray + 1] = green + left * in.background[3 * ray + 1];
  out.color[3 * ray + 2] = blue + left * in.background[3 * ray + 2];
  out.depth[ray] = depth;
  out.opacity[ray] = opacity;
  out.left[ray] = left;
}

__global__ void composite_gradients(CompositeInputs in, const float* weights, const float* left, CompositeCotangents g,
                                    CompositeGradients out, int64_t rays) {
  const int64_t ray = blockIdx.x * static_cast<int64_t>(rays_per_block) + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (ray >= rays) return;
  const float red = g.color ? g.color[3 * ray] : 0.f, green = g.color ? g.color[3 * ray + 1] : 0.f,
              blue = g.color ? g.color[3 * ray + 2] : 0.f;
  const float of_depth = g.depth ? g.depth[ray] : 0.f, of_opacity = g.opacity ? g.opacity[ray] : 0.f;
  const float* b = in.background + 3 * ray;
  if (lane == 0) {
    out.background[3 * ray] = left[ray] * red;
    out.background[3 * ray + 1] = left[ray] * green;
    out.background[3 * ray + 2] = left[ray] * blue;
  }
  float behind = left[ray];
  float rest = behind * (red * b[0] + green * b[1] + blue * b[2] + (g.left ? g.left[ray] : 0.f));
  const int64_t begin = in.offsets[ray];
  // From the last 32 samples to the first.
  for (int64_t end = in.offsets[ray + 1]; end > begin; end -= 32) {
    const int64_t n = end - 32 + lane;
    const bool here = n >= begin;
    float w = 0.f, worth = 0.f;
    if (here) {
      w = weights[n];
      worth = red * in.rgb[3 * n] + green * in.rgb[3 * n + 1] + blue * in.rgb[3 * n + 2] +
              of_depth * (0.5f * (in.t0[n] + in.t1[n])) + of_opacity + (g.weights ? g.weights[n] : 0.f);
    }
    float w_from = w, worth_from = w * worth;  // sums over this sample and those behind it in the warp
    for (int by = 1; by < 32; by *= 2) {
      const float w_other = __shfl_down_sync(full_warp, w_from, by);
      const float worth_other = __shfl_down_sync(full_warp, worth_from, by);
      if (lane + by < 32) {
        w_from += w_other;
        worth_from += worth_other;
      }
    }
    const float w_behind = __shfl_down_sync(full_warp, w_from, 1), worth_behind = __shfl_down_sync(full_warp, worth_from, 1);
    if (here) {
      const float length = in.t1[n] - in.t0[n];
      const float slope = depth_gradient(behind + (lane < 31 ? w_behind : 0.f), worth, rest + (lane < 31 ? worth_behind : 0.f));
      out.sigma[n] = length > 0.f ? length * slope : 0.f;
      out.rgb[3 * n] = w * red;
      out.rgb[3 * n + 1] = w * green;
      out.rgb[3 * n + 2] = w * blue;
    }
    behind += __shfl_sync(full_warp, w_from, 0);
    rest += __shfl_sync(full_warp, worth_from, 0);
  }
}

}  // namespace

void composite_forward(const CompositeInputs& in, const CompositeOutputs& out, int64_t rays, Stream stream) {
  if (rays == 0) return;
  POLYFIELD_LAUNCH(composite_values, blocks_for(rays, rays_per_block), 32 * rays_per_block, 0, stream, in, out, rays);
}

void composite_backward(const CompositeInputs& in, const float* weights, const float* left,
                        const CompositeCotangents& cotangents, const CompositeGradients& out, int64_t rays, Stream stream) {
  if (rays == 0) return;
  POLYFIELD_LAUNCH(composite_gradients, blocks_for(rays, rays_per_block), 32 * rays_per_block, 0, stream, in, weights, left,
                   cotangents, out, rays);
}

}  // namespace cuda
}  // namespace polyfield
