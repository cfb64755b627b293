#include "point_field.h"

#include <algorithm>
#include <cmath>

#include "kernels/domain.h"
#include "parallel.h"

namespace polyfield {

void PointDomain::place(const float* positions, int64_t n, float* unit, uint8_t* inside) const {
  parallel_for(n, 4096, [&](int64_t begin, int64_t end, int) {
    if (ball) {
      domain().contraction(positions, low, inverse[0], begin, end, unit);
      std::fill(inside + begin, inside + end, uint8_t{1});
    } else {
      domain().box(positions, low, inverse, begin, end, unit, inside);
    }
  });
}

void PointField::evaluate(const float* positions, int64_t n, Scratch& scratch, float* sigma, float* features) const {
  if (n == 0) return;
  float* unit = room(scratch.unit, 3 * n);
  float* encoded = room(scratch.encoded, encoder->width() * n);
  uint8_t* inside = room(scratch.inside, n);
  domain.place(positions, n, unit, inside);
  encoder->encode(unit, n, encoded);
  float *gated = encoded, *factor = nullptr;
  if (gate != nullptr) {
    gated = room(scratch.gated, encoder->width() * n);
    factor = room(scratch.factor, n);
    gate->open(unit, n, encoder->width(), encoded, gated, factor);
  }
  density->decode(density_input(gated, n), n, features, nullptr);
  activate(features, inside, 0, n, sigma, nullptr);
  for (int64_t i = 0; factor != nullptr && i < n; ++i) sigma[i] *= factor[i];
}

void PointField::activate(const float* features, const uint8_t* inside, int64_t begin, int64_t end, float* sigma,
                          float* slope) const {
  const int64_t stride = this->features();
  if (activation == DensityActivation::exp) {
    polyfield::domain().exp_density(features, stride, inside, gain, limit, begin, end, sigma);
    for (int64_t i = begin; slope != nullptr && i < end; ++i) slope[i] = features[i * stride] < limit ? sigma[i] : 0.f;
    return;
  }
  for (int64_t i = begin; i < end; ++i) {
    const float raw = features[i * stride], power = std::exp(-std::fabs(raw));  // a NaN stays one
    const bool soft = activation == DensityActivation::softplus;
    const float value = soft ? (raw > 0.f ? raw : 0.f) + std::log1p(power) : raw < 0.f ? 0.f : raw;
    const float rise = soft ? (raw > 0.f ? 1.f : power) / (1.f + power) : raw > 0.f ? 1.f : 0.f;
    sigma[i] = inside[i] ? gain * value : 0.f;
    if (slope != nullptr) slope[i] = inside[i] ? gain * rise : 0.f;
  }
}

MlpInput PointField::color_input(const float* features, const float* apparent, int64_t n,
                                 const PointConditions& conditions, const int32_t* rows) const {
  MlpInput in = {{features, this->features(), 1}, this->features(), nullptr, nullptr, 0, 0};
  if (appearance != nullptr) in = {{apparent, 1, n}, appearance->width(), nullptr, nullptr, 0, 0};
  if (conditions.columns > 0) {
    in.condition = conditions.values;
    in.rows = rows;
    in.condition_rows = conditions.rays;
    in.condition_columns = conditions.columns;
  }
  return in;
}

void PointField::shade(const float* positions, const float* features, const PointConditions& conditions,
                       const int32_t* rows, int64_t n, Scratch& scratch, float* out) const {
  if (n == 0) return;
  float* apparent = nullptr;
  if (appearance != nullptr) {
    float* unit = room(scratch.unit, 3 * n);
    domain.place(positions, n, unit, room(scratch.inside, n));
    apparent = room(scratch.appearance, appearance->width() * n);
    appearance->encode(unit, n, apparent);
  }
  color->decode(color_input(features, apparent, n, conditions, rows), n, out, nullptr);
  for (int64_t i = 0; sigmoid && i < 3 * n; ++i) out[i] = 1.f / (1.f + std::exp(-out[i]));
}

}  // namespace polyfield
