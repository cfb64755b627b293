// Encoders of points of the unit cube, as native code: a few thousand points at a time, one feature after the other.
// Called inside a parallel region they work on their own thread alone.
#pragma once

#include <cstdint>

#include "kernels/factor_grid.h"
#include "kernels/hash_grid.h"
#include "kernels/rbf.h"
#include "kernels/rbf_neighbours.h"
#include "kernels/sparse_grid.h"

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

class SparseGridPoints : public PointEncoder {
 public:
  SparseGridPoints(const SparseGridJob& grid, float* gradient, uint8_t* touched)
      : grid_(grid), gradient_(gradient), touched_(touched) {}
  int64_t width() const override { return grid_.channels; }
  void encode(const float* unit, int64_t n, float* out) const override;
  void add_gradients(const float* unit, int64_t n, const float* upstream) const override;

 private:
  SparseGridJob grid_;
  float* gradient_;
  uint8_t* touched_;
};

class RbfPoints : public PointEncoder {
 public:
  RbfPoints(const RbfIndex* index, const RbfJob& bases, float* gradient, uint8_t* touched)
      : index_(index), bases_(bases), gradient_(gradient), touched_(touched) {}
  int64_t width() const override { return bases_.channels; }
  void encode(const float* unit, int64_t n, float* out) const override;
  void add_gradients(const float* unit, int64_t n, const float* upstream) const override;

 private:
  const RbfIndex* index_;
  RbfJob bases_;  // but for its points and their neighbours
  float* gradient_;
  uint8_t* touched_;
};

// The features of two encoders, one behind the other.
class JoinedPoints : public PointEncoder {
 public:
  JoinedPoints(const PointEncoder& first, const PointEncoder& second) : first_(first), second_(second) {}
  int64_t width() const override { return first_.width() + second_.width(); }
  void encode(const float* unit, int64_t n, float* out) const override;
  void add_gradients(const float* unit, int64_t n, const float* upstream) const override;

 private:
  const PointEncoder &first_, &second_;
};

}  // namespace polyfield
