// Gates as native code: what scales a point's features, and its density, by where it lies.
#pragma once

#include <cstdint>

#include "kernels/factor_grid.h"

namespace polyfield {

class PointGate {
 public:
  virtual ~PointGate() = default;
  // encoded[feature][point] -> gated, laid out alike, and the factors on density [n].
  virtual void open(const float* unit, int64_t n, int64_t width, const float* encoded, float* gated,
                    float* factor) const = 0;
  // From what `open` gave and took, and the gradients to both: turns to_gated into the gradient to `encoded`, and adds
  // those of what is trained.
  virtual void go_back(const float* unit, int64_t n, int64_t width, const float* encoded, const float* factor,
                       const float* to_factor, float* to_gated) const = 0;
};

// p, the sigmoid of what one dense grid of one channel says, scales features; density gets tanh(alpha |p f|)
// (fields/gates/saliency.py).
class SaliencyGate : public PointGate {
 public:
  SaliencyGate(const FactorGridJob& grid, float alpha, float* gradient) : grid_(grid), alpha_(alpha), gradient_(gradient) {}
  void open(const float* unit, int64_t n, int64_t width, const float* encoded, float* gated, float* factor) const override;
  void go_back(const float* unit, int64_t n, int64_t width, const float* encoded, const float* factor,
               const float* to_factor, float* to_gated) const override;

 private:
  FactorGridJob grid_;  // but for its points
  float alpha_;
  float* gradient_;     // of the grid
};

}  // namespace polyfield
