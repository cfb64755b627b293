#include "point_field.h"

#include <algorithm>
#include <cmath>

#include "kernels/domain.h"
#include "kernels/frequency.h"
#include "parallel.h"

namespace polyfield {
namespace {

constexpr int64_t block = 256;  // points that are turned from rows into columns, or back, in the cache

// Lets `rows_of(first, count, rows)` write rows of `width`, some points at a time, and turns them: out[column][point].
template <class Rows>
void as_columns(int64_t n, int64_t width, float* out, Rows&& rows_of) {
  parallel_for(n, 1024, [&](int64_t begin, int64_t end, int) {
    thread_local std::vector<float> rows;
    for (int64_t first = begin; first < end; first += block) {
      const int64_t some = std::min<int64_t>(block, end - first);
      rows_of(first, some, room(rows, block * width));
      for (int64_t f = 0; f < width; ++f)
        for (int64_t i = 0; i < some; ++i) out[f * n + first + i] = rows[i * width + f];
    }
  });
}

}  // namespace

void HashGridPoints::encode(const float* unit, int64_t n, float* out) const {
  HashGridJob job = grid_;
  job.points = n;
  job.x = unit;
  const int64_t used = static_cast<int64_t>(job.level_count) * job.features;
  std::fill_n(out + used * n, (width_ - used) * n, 0.f);
  hash_grid().forward(job, table_, out);
}

void HashGridPoints::add_gradients(const float* unit, int64_t n, const float* upstream) const {
  HashGridJob job = grid_;
  job.points = n;
  job.x = unit;
  hash_grid().scatter(job, {upstream, n, 1}, gradient_, touched_);
}

int64_t FrequencyPoints::width() const { return FrequencyShape{3, octaves_, include_input_}.width(); }

void FrequencyPoints::encode(const float* unit, int64_t n, float* out) const {
  const FrequencyShape shape = {3, octaves_, include_input_};
  const int64_t width = shape.width();
  struct alignas(64) Line {
    float lanes[16];
  };
  as_columns(n, width, out, [&](int64_t first, int64_t some, float* rows) {
    thread_local std::vector<Line> scratch;
    scratch.resize(width + shape.dim);
    frequency().forward(unit + 3 * first, rows, 0, some, shape, scratch.data()->lanes);
  });
}

void FactorGridPoints::encode(const float* unit, int64_t n, float* out) const {
  as_columns(n, width(), out, [&](int64_t first, int64_t some, float* rows) {
    FactorGridJob job = grids_;
    job.x = unit + 3 * first;
    factor_grid().forward(job, rows, 0, some);
  });
}

void FactorGridPoints::add_gradients(const float* unit, int64_t n, const float* upstream) const {
  thread_local std::vector<float> memory;
  const int64_t width = this->width();
  float* rows = room(memory, n * width);
  parallel_for(n, block, [&](int64_t begin, int64_t end, int) {
    for (int64_t first = begin; first < end; first += block)
      for (int64_t f = 0; f < width; ++f)
        for (int64_t i = first; i < std::min(first + block, end); ++i) rows[i * width + f] = upstream[f * n + i];
  });
  FactorGridJob job = grids_;
  job.x = unit;
  parallel_tasks(job.factor_count, [&](int64_t factor, int) {
    factor_grid().scatter(job, static_cast<int>(factor), rows, n, gradient_, touched_);
  });
}

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
  const MlpInput input = {{encoded, 1, n}, encoder->width(), nullptr, nullptr, 0, 0};
  mlp().forward(density.shape, input, density.weights, density.bf16, {features, density.shape.outputs, 1}, n,
                {nullptr, 0});
  activate(features, inside, 0, n, sigma, nullptr);
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

void PointField::shade(const float* features, const PointConditions& conditions, const int32_t* rows, int64_t n,
                       float* out) const {
  if (n == 0) return;
  const int64_t width = this->features();
  MlpInput input = {{features, width, 1}, width, nullptr, nullptr, 0, 0};
  if (conditions.columns > 0)
    input = {{features, width, 1}, width, conditions.values, rows, conditions.rays, conditions.columns};
  mlp().forward(color.shape, input, color.weights, color.bf16, {out, 3, 1}, n, {nullptr, 0});
}

}  // namespace polyfield
