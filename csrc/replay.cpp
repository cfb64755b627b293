#include "replay.h"

#include <algorithm>
#include <atomic>

#include "parallel.h"

namespace polyfield {

constexpr int64_t grain = 2048;           // samples whose gathering is worth a thread
constexpr int64_t most_kept = 256 << 20;  // bytes of a network's activations; those beyond are computed again

bool Replay::run(const PointField& field, const ReplaySamples& samples, const PointConditions& conditions,
                 const int64_t* kept, const float* weights, int64_t n, float* density_gradient, float* color_gradient) {
  const int64_t width = field.encoder->width(), outputs = field.features();
  float *positions = room(positions_, 3 * n), *unit = room(unit_, 3 * n), *encoded = room(encoded_, width * n),
        *features = room(features_, outputs * n), *sigma = room(sigma_, n), *slope = room(slope_, n), *color = room(color_, 3 * n),
        *to_sigma = room(to_sigma_, n), *to_color = room(to_color_, 3 * n), *to_features = room(to_features_, outputs * n),
        *to_encoded = room(to_encoded_, width * n);
  int32_t* rays = room(rays_, n);
  uint8_t* inside = room(inside_, n);
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
      to_sigma[i] = samples.sigma_gradient[from] * weights[i];
      rays[i] = samples.rays[from];
    }
    for (int64_t f = 0; samples.encoded != nullptr && f < width; ++f)
      for (int64_t i = begin; i < end; ++i) encoded[f * n + i] = samples.encoded[f * samples.count + kept[i]];
  });
  if (strange) return false;
  field.domain.place(positions, n, unit, inside);
  if (samples.encoded == nullptr) field.encoder->encode(unit, n, encoded);

  const auto saved = [n](std::vector<char>& record, const PointNetwork& net) {
    const int64_t points = std::min(n, most_kept / mlp().saved_bytes(net.shape, net.bf16, 64) * 64);
    return MlpSaved{room(record, mlp().saved_bytes(net.shape, net.bf16, points)), points};
  };
  const PointNetwork &density = field.density, &shader = field.color;
  const MlpSaved of_density = saved(density_record_, density), of_color = saved(color_record_, shader);
  const MlpInput points = {{encoded, 1, n}, width, nullptr, nullptr, 0, 0};
  MlpInput seen = {{features, outputs, 1}, outputs, nullptr, nullptr, 0, 0};
  if (conditions.columns > 0)
    seen = {{features, outputs, 1}, outputs, conditions.values, rays, conditions.rays, conditions.columns};
  mlp().forward(density.shape, points, density.weights, density.bf16, {features, outputs, 1}, n, of_density);
  mlp().forward(shader.shape, seen, shader.weights, shader.bf16, {color, 3, 1}, n, of_color);
  mlp().backward(shader.shape, seen, shader.weights, shader.bf16, {{to_color, 3, 1}, {color, 3, 1}},
                 {{to_features, outputs, 1}, color_gradient, nullptr}, n, of_color);

  parallel_for(n, grain, [&](int64_t begin, int64_t end, int) {
    field.activate(features, inside, begin, end, sigma, slope);
    for (int64_t i = begin; i < end; ++i) to_features[i * outputs] += to_sigma[i] * slope[i];
  });
  mlp().backward(density.shape, points, density.weights, density.bf16, {{to_features, outputs, 1}, {features, outputs, 1}},
                 {{to_encoded, 1, n}, density_gradient, nullptr}, n, of_density);
  field.encoder->add_gradients(unit, n, to_encoded);
  return true;
}

}  // namespace polyfield
