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
// (fields/gates/saliency.py). In closed cells both are 0; of those there is a bit each, the first axis fastest.
class SaliencyGate : public PointGate {
 public:
  SaliencyGate(const FactorGridJob& grid, float alpha, const uint8_t* closed, int cells, float* gradient)
      : grid_(grid), alpha_(alpha), closed_(closed), cells_(cells), gradient_(gradient) {}
  void open(const float* unit, int64_t n, int64_t width, const float* encoded, float* gated, float* factor) const override;
  void go_back(const float* unit, int64_t n, int64_t width, const float* encoded, const float* factor,
               const float* to_factor, float* to_gated) const override;

 private:
  void openings(const float* unit, int64_t begin, int64_t end, float* p) const;
  bool shut(const float* unit) const;

  FactorGridJob grid_;     // but for its points
  float alpha_;
  const uint8_t* closed_;  // nullptr: no cell is
  int cells_;              // along an axis
  float* gradient_;        // of the grid
};

}  // namespace polyfield
