#include "photometric.h"

#include <algorithm>
#include <cmath>

#include "parallel.h"
#include "room.h"

namespace polyfield {

constexpr int64_t block_rays = 256;  // sums are rounded block by block, so whatever the number of threads

PhotometricSums Photometric::run(const PhotometricRays& rays, const PhotometricGradients& out) {
  const int64_t samples = rays.samples.offsets[rays.count];
  for (auto* per_ray : {&depth_, &opacity_, &left_}) room(*per_ray, rays.count);
  for (auto* triples : {&color_, &to_color_, &to_background_}) room(*triples, 3 * rays.count);
  room(weights_, samples);
  double counted = 0;
  for (int64_t r = 0; r < rays.count; ++r) counted += rays.weights == nullptr ? 1. : rays.weights[r];
  const double scale = 1. / (3. * std::max(counted, 1.));
  const int64_t blocks = (rays.count + block_rays - 1) / block_rays;
  room(sums_, blocks);
  parallel_tasks(blocks, [&](int64_t b, int) {
    block(rays, out, static_cast<float>(scale), b * block_rays, std::min(rays.count, (b + 1) * block_rays), sums_[b]);
  });
  PhotometricSums total = {0, 0};
  for (int64_t b = 0; b < blocks; ++b) {
    total.loss += sums_[b].loss * scale;
    total.square += sums_[b].square * scale;
  }
  return total;
}

void Photometric::block(const PhotometricRays& rays, const PhotometricGradients& out, float scale, int64_t begin,
                        int64_t end, PhotometricSums& sums) {
  const CompositeInputs& in = rays.samples;
  composite().forward(in, {color_.data(), depth_.data(), opacity_.data(), left_.data(), weights_.data()}, begin, end);
  sums = {0, 0};
  for (int64_t r = begin; r < end; ++r) {
    const float weight = rays.weights == nullptr ? 1.f : rays.weights[r], gap = 1.f - rays.alpha[r];
    for (int64_t c = 3 * r; c < 3 * r + 3; ++c) {
      const float off = color_[c] - (rays.color[c] + gap * in.background[c]), far = std::fabs(off) / rays.delta;
      // Huber's loss over delta: off^2 / (2 delta) up to delta, |off| - delta / 2 beyond.
      sums.loss += weight * rays.delta * (far < 1.f ? 0.5f * far * far : far - 0.5f);
      sums.square += weight * off * off;
      to_color_[c] = weight * scale * (far < 1.f ? off / rays.delta : off < 0.f ? -1.f : 1.f);
      if (off != off) to_color_[c] = off;  // a NaN stays one
    }
  }
  composite().backward(in, weights_.data(), left_.data(), {to_color_.data(), nullptr, nullptr, nullptr, nullptr},
                       {out.sigma, out.rgb, to_background_.data()}, begin, end);
  for (int64_t n = in.offsets[begin]; n < in.offsets[end]; ++n) {
    float size = std::fabs(out.sigma[n] * in.sigma[n]);
    for (int64_t c = 3 * n; c < 3 * n + 3; ++c) size += std::fabs(out.rgb[c] * in.rgb[c] * (1.f - in.rgb[c]));
    out.importance[n] = size;
  }
}

}  // namespace polyfield
