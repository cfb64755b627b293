// The gradients of a radiance field's parameters from those of some samples' densities and colours: the field is
// evaluated again at these samples and gone through backwards, in one call.
#pragma once

#include <cstdint>
#include <vector>

#include "point_field.h"

namespace polyfield {

// N samples, and what the loss says of each.
struct ReplaySamples {
  const float* positions;  // [N, 3]
  const int32_t* rays;     // [N]
  const float* encoded;    // [width][N] as the encoder gave it with the present parameters, or null
  const float *sigma_gradient, *color_gradient;  // [N], [N, 3]
  const float* features_gradient;                // [N, features()], or null
  int64_t count;
};

class Replay {
 public:
  // Adds the gradients of samples kept[0 .. n), each times its weight, where the field's parts keep them. False, and
  // nothing done, where one of the samples does not exist, or its ray has no conditions.
  bool run(const PointField& field, const ReplaySamples& samples, const PointConditions& conditions,
           const int64_t* kept, const float* weights, int64_t n);

 private:
  bool gather(const ReplaySamples& samples, const PointConditions& conditions, const int64_t* kept, const float* weights,
              int64_t n, int64_t width, int64_t outputs);
  std::vector<float> positions_, unit_, encoded_, gated_, factor_, apparent_, features_, sigma_, slope_, color_,
      to_sigma_, to_color_, to_factor_, to_given_, to_features_, to_encoded_, to_apparent_;
  std::vector<int32_t> rays_;
  std::vector<uint8_t> inside_;
  std::vector<char> density_record_, color_record_;
};

}  // namespace polyfield
