#include "replay.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "parallel.h"

namespace polyfield {

constexpr int64_t grain = 2048;  // samples whose gathering is worth a thread

static float sigmoid_slope(float raw) {
  const float value = 1.f / (1.f + std::exp(-raw));
  return value * (1.f - value);
}

// Brings together what is known of the kept samples: false where one of them is not there.
bool Replay::gather(const ReplaySamples& samples, const PointConditions& conditions, const int64_t* kept,
                    const float* weights, int64_t n, int64_t width, int64_t outputs) {
  float *positions = room(positions_, 3 * n), *encoded = room(encoded_, width * n), *to_sigma = room(to_sigma_, n),
        *to_color = room(to_color_, 3 * n), *to_given = room(to_given_, samples.features_gradient == nullptr ? 0 : outputs * n);
  int32_t* rays = room(rays_, n);
  std::atomic<bool> strange{false};
  parallel_for(n, grain, [&](int64_t begin, int64_t end, int) {
    bool known = true;
    for (int64_t i = begin; i < end && known; ++i) {
      known = kept[i] >= 0 && kept[i] < samples.count;
      const int32_t ray = known ? samples.rays[kept[i]] : -1;
      known = known && (conditions.columns == 0 || (ray >= 0 && ray < conditions.rays));
    }
    if (!known) {
      strange = true;
      return;
    }
    for (int64_t i = begin; i < end; ++i) {
      const int64_t from = kept[i];
      for (int a = 0; a < 3; ++a) {
        positions[3 * i + a] = samples.positions[3 * from + a];
        to_color[3 * i + a] = samples.color_gradient[3 * from + a] * weights[i];
      }
      for (int64_t f = 0; samples.features_gradient != nullptr && f < outputs; ++f)
        to_given[outputs * i + f] = samples.features_gradient[outputs * from + f] * weights[i];
      to_sigma[i] = samples.sigma_gradient[from] * weights[i];
      rays[i] = samples.rays[from];
    }
    for (int64_t f = 0; samples.encoded != nullptr && f < width; ++f)
      for (int64_t i = begin; i < end; ++i) encoded[f * n + i] = samples.encoded[f * samples.count + kept[i]];
  });
  return !strange;
}

bool Replay::run(const PointField& field, const ReplaySamples& samples, const PointConditions& conditions,
                 const int64_t* kept, const float* weights, int64_t n) {
  const int64_t width = field.encoder->width(), outputs = field.features();
  if (!gather(samples, conditions, kept, weights, n, width, outputs)) return false;
  float *unit = room(unit_, 3 * n), *encoded = encoded_.data(), *features = room(features_, outputs * n),
        *sigma = room(sigma_, n), *slope = room(slope_, n), *color = room(color_, 3 * n), *to_sigma = to_sigma_.data(),
        *to_color = to_color_.data(), *to_features = room(to_features_, outputs * n), *to_encoded = room(to_encoded_, width * n);
  uint8_t* inside = room(inside_, n);

  field.domain.place(positions_.data(), n, unit, inside);
  if (samples.encoded == nullptr) field.encoder->encode(unit, n, encoded);
  float *gated = encoded, *factor = nullptr, *to_factor = nullptr;
  if (field.gate != nullptr) {
    gated = room(gated_, width * n);
    factor = room(factor_, n);
    to_factor = room(to_factor_, n);
    field.gate->open(unit, n, width, encoded, gated, factor);
  }
  const MlpInput points = field.density_input(gated, n);
  field.density->decode(points, n, features, &density_record_);
  float *apparent = nullptr, *to_seen = to_features;  // what colours are decoded from: features, or an encoder's own
  if (field.appearance != nullptr) {
    apparent = room(apparent_, field.appearance->width() * n);
    to_seen = room(to_apparent_, field.appearance->width() * n);
    field.appearance->encode(unit, n, apparent);
    std::fill_n(to_features, outputs * n, 0.f);
  }
  const MlpInput seen = field.color_input(features, apparent, n, conditions, rays_.data());
  field.color->decode(seen, n, color, &color_record_);

  if (field.sigmoid)
    parallel_for(n, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = 3 * begin; i < 3 * end; ++i) to_color[i] *= sigmoid_slope(color[i]);
    });
  field.color->go_back(seen, n, color, to_color, color_record_, to_seen);
  parallel_for(n, grain, [&](int64_t begin, int64_t end, int) {
    field.activate(features, inside, begin, end, sigma, slope);
    for (int64_t f = outputs * begin; samples.features_gradient != nullptr && f < outputs * end; ++f)
      to_features[f] += to_given_[f];
    for (int64_t i = begin; i < end; ++i) {
      to_features[i * outputs] += to_sigma[i] * slope[i] * (factor == nullptr ? 1.f : factor[i]);
      if (factor != nullptr) to_factor[i] = to_sigma[i] * sigma[i];
    }
  });
  field.density->go_back(points, n, features, to_features, density_record_, to_encoded);
  if (field.gate != nullptr) field.gate->go_back(unit, n, width, encoded, factor, to_factor, to_encoded);
  field.encoder->add_gradients(unit, n, to_encoded);
  if (field.appearance != nullptr) field.appearance->add_gradients(unit, n, to_seen);
  return true;
}

}  // namespace polyfield
