// A radiance field as native code, for a few thousand points at a time: positions -> domain -> encoder -> perceptron ->
// density and features; features, encoded directions -> perceptron -> colour. And all of it backwards.
//
// What the Python modules do one after the other for a whole batch, by the same kernels, without Python in between.
// Called inside a parallel region it works on its own thread alone.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/factor_grid.h"
#include "kernels/hash_grid.h"
#include "kernels/mlp.h"

namespace polyfield {

// Encodes points of the unit cube.
class PointEncoder {
 public:
  virtual ~PointEncoder() = default;
  virtual int64_t width() const = 0;
  // Writes width() * n floats: out[feature][point].
  virtual void encode(const float* unit, int64_t n, float* out) const = 0;
  // Adds the gradients of what is trained; upstream[feature][point].
  virtual void add_gradients(const float* unit, int64_t n, const float* upstream) const = 0;
};

class HashGridPoints : public PointEncoder {
 public:
  HashGridPoints(const HashGridJob& grid, const float* table, int64_t width, float* gradient, uint8_t* touched)
      : grid_(grid), table_(table), width_(width), gradient_(gradient), touched_(touched) {}
  int64_t width() const override { return width_; }
  void encode(const float* unit, int64_t n, float* out) const override;
  void add_gradients(const float* unit, int64_t n, const float* upstream) const override;

 private:
  HashGridJob grid_;  // but for its points
  const float* table_;
  int64_t width_;     // of all levels; those that are not in use are zero
  float* gradient_;
  uint8_t* touched_;
};

class FrequencyPoints : public PointEncoder {
 public:
  FrequencyPoints(int octaves, bool include_input) : octaves_(octaves), include_input_(include_input) {}
  int64_t width() const override;
  void encode(const float* unit, int64_t n, float* out) const override;
  void add_gradients(const float*, int64_t, const float*) const override {}

 private:
  int octaves_;
  bool include_input_;
};

class FactorGridPoints : public PointEncoder {
 public:
  FactorGridPoints(const FactorGridJob& grids, float* gradient, uint8_t* touched)
      : grids_(grids), gradient_(gradient), touched_(touched) {}
  int64_t width() const override { return static_cast<int64_t>(grids_.group_count) * grids_.channels; }
  void encode(const float* unit, int64_t n, float* out) const override;
  void add_gradients(const float* unit, int64_t n, const float* upstream) const override;

 private:
  FactorGridJob grids_;  // but for its points
  float* gradient_;
  uint8_t* touched_;
};

// Where the unit cube lies: a box, or all of space drawn in around a ball (see fields/domain.py).
struct PointDomain {
  bool ball;
  float low[3];      // the box's lowest corner; the ball's centre
  float inverse[3];  // of the box's sides; of the ball's radius
  void place(const float* positions, int64_t n, float* unit, uint8_t* inside) const;
};

struct PointNetwork {
  MlpShape shape;
  const float* weights;
  bool bf16;
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
  PointNetwork density;  // its first output is the raw density, all of them are the features
  PointNetwork color;    // of features and condition
  DensityActivation activation;
  float gain, limit;     // exp stops growing at the limit

  // Workspaces of one thread. `encoded` is what the last evaluation left there: [width][n].
  struct Scratch {
    std::vector<float> unit, encoded;
    std::vector<uint8_t> inside;
  };

  int64_t features() const { return density.shape.outputs; }
  // sigma [n], features [n][features()].
  void evaluate(const float* positions, int64_t n, Scratch& scratch, float* sigma, float* features) const;
  // sigma[n] from the first of each point's features; slope[n], unless null, is d sigma / d raw.
  void activate(const float* features, const uint8_t* inside, int64_t begin, int64_t end, float* sigma,
                float* slope) const;
  // Colours [n][3] of samples of rays `rows`.
  void shade(const float* features, const PointConditions& conditions, const int32_t* rows, int64_t n, float* color) const;
};

// A vector with room for at least `size`; it never shrinks.
template <class T>
T* room(std::vector<T>& memory, int64_t size) {
  if (static_cast<int64_t>(memory.size()) < size) memory.resize(size);
  return memory.data();
}

}  // namespace polyfield
