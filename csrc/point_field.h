// A radiance field as native code, for a few thousand points at a time: positions -> domain -> encoder -> [gate] -> head
// -> density and features; features, encoded directions -> head -> colour. And all of it backwards.
//
// What the Python modules do one after the other for a whole batch, by the same kernels, without Python in between.
// Called inside a parallel region it works on its own thread alone.
#pragma once

#include <cstdint>
#include <vector>

#include "point_encoder.h"
#include "point_gate.h"
#include "point_head.h"
#include "room.h"

namespace polyfield {

// Where the unit cube lies: a box, or all of space drawn in around a ball (see fields/domain.py).
struct PointDomain {
  bool ball;
  float low[3];      // the box's lowest corner; the ball's centre
  float inverse[3];  // of the box's sides; of the ball's radius
  void place(const float* positions, int64_t n, float* unit, uint8_t* inside) const;
};

// How raw density becomes density, before the gain; 0 outside the domain.
enum class DensityActivation { exp = 0, softplus = 1, relu = 2 };

// Conditions of colours: encoded directions, a row a ray.
struct PointConditions {
  const float* values;  // [rays, columns], or null with no columns
  int64_t rays, columns;
};

struct PointField {
  PointDomain domain;
  const PointEncoder* encoder;
  const PointGate* gate;           // or null
  const PointHead* density;        // its first output is the raw density, all of them are the features
  const PointEncoder* appearance;  // gives the colour head other features; or null
  const PointHead* color;          // of features and condition
  DensityActivation activation;
  bool sigmoid;                    // behind the colour head
  float gain, limit;               // exp stops growing at the limit

  // Workspaces of one thread. `encoded` is what the encoder gave at the last evaluation: [width][n].
  struct Scratch {
    std::vector<float> unit, encoded, gated, factor, appearance;
    std::vector<uint8_t> inside;
  };

  int64_t features() const { return density->outputs(); }
  // sigma [n], features [n][features()].
  void evaluate(const float* positions, int64_t n, Scratch& scratch, float* sigma, float* features) const;
  // sigma[n] from the first of each point's features; slope[n], unless null, is d sigma / d raw.
  void activate(const float* features, const uint8_t* inside, int64_t begin, int64_t end, float* sigma,
                float* slope) const;
  // Colours [n][3] of samples of rays `rows`.
  void shade(const float* positions, const float* features, const PointConditions& conditions, const int32_t* rows,
             int64_t n, Scratch& scratch, float* color) const;

  // What the heads read: `encoded`, gated if there is a gate; features [n][features()], or else `apparent`, what the
  // appearance encoder gave, beside the condition.
  MlpInput density_input(const float* encoded, int64_t n) const {
    return {{encoded, 1, n}, encoder->width(), nullptr, nullptr, 0, 0};
  }
  MlpInput color_input(const float* features, const float* apparent, int64_t n, const PointConditions& conditions,
                       const int32_t* rows) const;
};

}  // namespace polyfield
