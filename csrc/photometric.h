// How far composited rays are from what they should show, and what that is worth to each of their samples: compositing,
// the Huber loss, and both of them backwards, a few hundred rays at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/composite.h"

namespace polyfield {

struct PhotometricRays {
  CompositeInputs samples;  // of `count` rays
  const float* color;       // [R, 3] wanted, premultiplied by alpha
  const float* alpha;       // [R] wanted: the background shows through the rest
  const float* weights;     // [R], or null: 1
  int64_t count;
  float delta;              // where the loss turns from square to linear
};

struct PhotometricGradients {
  float *sigma, *rgb;  // [N], [N, 3]
  float* importance;   // [N]: their size with respect to log density and to colour before a sigmoid
};

// Of all rays and channels, by weight: sums, and in the end means.
struct PhotometricSums {
  double loss, square;
};

class Photometric {
 public:
  PhotometricSums run(const PhotometricRays& rays, const PhotometricGradients& out);

 private:
  void block(const PhotometricRays& rays, const PhotometricGradients& out, float scale, int64_t begin, int64_t end,
             PhotometricSums& sums);
  std::vector<float> color_, left_, weights_, to_color_, to_background_;
  std::vector<float> depth_, opacity_;  // compositing gives them too
  std::vector<PhotometricSums> sums_;
};

}  // namespace polyfield
