#include "evaluation.h"

#include <algorithm>

#include "parallel.h"

namespace polyfield {

constexpr int64_t tile = 2048;  // samples that stay with a thread, so that what passes from part to part is in its cache

struct Evaluation::Workspace {
  PointField::Scratch scratch;
  std::vector<float> features;
};

Evaluation::Evaluation() = default;
Evaluation::~Evaluation() = default;

bool Evaluation::run(const PointField& field, const float* positions, const int32_t* rays,
                     const PointConditions& conditions, int64_t count, const EvaluatedSamples& out) {
  const auto known = [&](int32_t ray) { return ray >= 0 && ray < conditions.rays; };
  if (conditions.columns > 0 && !std::all_of(rays, rays + count, known)) return false;
  while (static_cast<int>(workspaces_.size()) < thread_count()) workspaces_.push_back(std::make_unique<Workspace>());
  const int64_t width = field.encoder->width(), outputs = field.features();
  parallel_tasks((count + tile - 1) / tile, [&](int64_t t, int thread) {
    Workspace& work = *workspaces_[thread];
    const int64_t begin = t * tile, n = std::min(tile, count - begin);
    const float* places = positions + 3 * begin;
    float* features = out.features == nullptr ? room(work.features, outputs * n) : out.features + outputs * begin;
    field.evaluate(places, n, work.scratch, out.sigma + begin, features);
    for (int64_t f = 0; out.encoded != nullptr && f < width; ++f)
      std::copy_n(work.scratch.encoded.data() + f * n, n, out.encoded + f * count + begin);
    field.shade(places, features, conditions, rays + begin, n, work.scratch, out.color + 3 * begin);
  });
  return true;
}

}  // namespace polyfield
