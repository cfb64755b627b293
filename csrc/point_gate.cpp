#include "point_gate.h"

#include <cmath>
#include <vector>

#include "parallel.h"
#include "room.h"

namespace polyfield {
namespace {

constexpr int64_t block = 256;  // points whose features stay in the cache

// Calls body(begin, end) for blocks of n points.
template <class Body>
void each_block(int64_t n, Body&& body) {
  parallel_for(n, block, [&](int64_t first, int64_t last, int) {
    for (int64_t begin = first; begin < last; begin += block) body(begin, begin + block < last ? begin + block : last);
  });
}

}  // namespace

// p at points [begin, end), at most a block of them.
void SaliencyGate::openings(const float* unit, int64_t begin, int64_t end, float* p) const {
  FactorGridJob grid = grid_;
  grid.x = unit + 3 * begin;
  factor_grid().forward(grid, p, 0, end - begin);
  for (int64_t i = 0; i < end - begin; ++i) p[i] = 1.f / (1.f + std::exp(-p[i]));
  if (closed_ == nullptr) return;
  for (int64_t i = 0; i < end - begin; ++i)
    if (shut(unit + 3 * (begin + i))) p[i] = 0.f;
}

bool SaliencyGate::shut(const float* unit) const {
  int64_t cell = 0, stride = 1;
  for (int axis = 0; axis < 3; ++axis, stride *= cells_) {
    const float x = unit[axis];
    if (std::isnan(x)) return false;  // it shall be seen in what comes out
    const float place = (x < 0.f ? 0.f : x > 1.f ? 1.f : x) * static_cast<float>(cells_);
    cell += stride * (place < cells_ - 1 ? static_cast<int64_t>(place) : cells_ - 1);
  }
  return (closed_[cell >> 3] >> (cell & 7)) & 1;
}

void SaliencyGate::open(const float* unit, int64_t n, int64_t width, const float* encoded, float* gated,
                        float* factor) const {
  each_block(n, [&](int64_t begin, int64_t end) {
    float p[block], squares[block] = {};
    openings(unit, begin, end, p);
    for (int64_t f = 0; f < width; ++f)
      for (int64_t i = begin; i < end; ++i) {
        const float scaled = p[i - begin] * encoded[f * n + i];
        gated[f * n + i] = scaled;
        squares[i - begin] += scaled * scaled;
      }
    for (int64_t i = begin; i < end; ++i) factor[i] = std::tanh(alpha_ * std::sqrt(squares[i - begin]));
  });
}

void SaliencyGate::go_back(const float* unit, int64_t n, int64_t width, const float* encoded, const float* factor,
                           const float* to_factor, float* to_gated) const {
  thread_local std::vector<float> memory;
  float* to_grid = room(memory, n);
  each_block(n, [&](int64_t begin, int64_t end) {
    float p[block], pull[block] = {}, to_p[block] = {};
    openings(unit, begin, end, p);
    for (int64_t f = 0; f < width; ++f)
      for (int64_t i = begin; i < end; ++i) pull[i - begin] += encoded[f * n + i] * encoded[f * n + i];
    // With s = p f: d factor / d s = alpha (1 - factor^2) s / |s|, and 0 where s is 0. Here without the p of s.
    for (int64_t i = begin; i < end; ++i) {
      const float length = std::sqrt(pull[i - begin]), slope = to_factor[i] * alpha_ * (1.f - factor[i] * factor[i]);
      pull[i - begin] = length * p[i - begin] > 0.f ? slope / length : 0.f;
    }
    for (int64_t f = 0; f < width; ++f)
      for (int64_t i = begin; i < end; ++i) {
        const float to_scaled = to_gated[f * n + i] + pull[i - begin] * encoded[f * n + i];
        to_p[i - begin] += to_scaled * encoded[f * n + i];
        to_gated[f * n + i] = to_scaled * p[i - begin];
      }
    for (int64_t i = begin; i < end; ++i) to_grid[i] = to_p[i - begin] * p[i - begin] * (1.f - p[i - begin]);
  });
  FactorGridJob grid = grid_;
  grid.x = unit;
  factor_grid().scatter(grid, 0, to_grid, n, gradient_, nullptr);
}

}  // namespace polyfield
