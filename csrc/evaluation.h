// What a radiance field says of given samples.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "point_field.h"

namespace polyfield {

struct EvaluatedSamples {
  float *sigma, *color;  // [N], [N, 3]
  float* features;       // [N, features()], or null
  float* encoded;        // [width][N], or null
};

class Evaluation {
 public:
  Evaluation();
  ~Evaluation();

  // Of N samples at `positions` [N, 3] of rays `rays` [N]. False, and nothing done, where a ray has no conditions.
  bool run(const PointField& field, const float* positions, const int32_t* rays, const PointConditions& conditions,
           int64_t count, const EvaluatedSamples& out);

 private:
  struct Workspace;
  std::vector<std::unique_ptr<Workspace>> workspaces_;
};

}  // namespace polyfield
