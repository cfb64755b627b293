// Heads as native code: what decodes the features of points, and conditions of the rays on which they lie.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/mlp.h"

namespace polyfield {

// Decodes rows: of point i its features x[i], followed by condition[rows[i]] where there is one.
class PointHead {
 public:
  virtual ~PointHead() = default;
  virtual int64_t outputs() const = 0;
  // Writes out[n][outputs()], and to `record`, unless it is null, what going back needs.
  virtual void decode(const MlpInput& in, int64_t n, float* out, std::vector<char>* record) const = 0;
  // From what `decode` gave and the gradient to it, both [n][outputs()]: writes that to the features, laid out as they
  // are, and to what is trained.
  virtual void go_back(const MlpInput& in, int64_t n, const float* out, const float* upstream, std::vector<char>& record,
                       float* to_x) const = 0;
};

class NetworkHead : public PointHead {
 public:
  NetworkHead(const MlpShape& shape, const float* weights, bool bf16, float* gradient)
      : shape_(shape), weights_(weights), bf16_(bf16), gradient_(gradient) {}
  int64_t outputs() const override { return shape_.outputs; }
  void decode(const MlpInput& in, int64_t n, float* out, std::vector<char>* record) const override;
  void go_back(const MlpInput& in, int64_t n, const float* out, const float* upstream, std::vector<char>& record,
               float* to_x) const override;

 private:
  MlpShape shape_;
  const float* weights_;
  bool bf16_;
  float* gradient_;  // flat as the weights are
};

// A network of the squares of a row's entries, and then of the entries (fields/ops/rbf_layer.py).
class SquaresHead : public PointHead {
 public:
  SquaresHead(const MlpShape& shape, const float* weights, float* gradient) : network_(shape, weights, false, gradient) {}
  int64_t outputs() const override { return network_.outputs(); }
  void decode(const MlpInput& in, int64_t n, float* out, std::vector<char>* record) const override;
  void go_back(const MlpInput& in, int64_t n, const float* out, const float* upstream, std::vector<char>& record,
               float* to_x) const override;

 private:
  NetworkHead network_;
};

// One output: the sum of a row's entries, and a number.
class SumHead : public PointHead {
 public:
  explicit SumHead(float shift) : shift_(shift) {}
  int64_t outputs() const override { return 1; }
  void decode(const MlpInput& in, int64_t n, float* out, std::vector<char>* record) const override;
  void go_back(const MlpInput& in, int64_t n, const float* out, const float* upstream, std::vector<char>& record,
               float* to_x) const override;

 private:
  float shift_;
};

// The row itself.
class IdentityHead : public PointHead {
 public:
  explicit IdentityHead(int64_t columns) : columns_(columns) {}
  int64_t outputs() const override { return columns_; }
  void decode(const MlpInput& in, int64_t n, float* out, std::vector<char>* record) const override;
  void go_back(const MlpInput& in, int64_t n, const float* out, const float* upstream, std::vector<char>& record,
               float* to_x) const override;

 private:
  int64_t columns_;
};

// A row's first entry is left alone, then come `terms` coefficients for each output, and last the basis that they are
// of (fields/heads/spherical_harmonics.py).
class HarmonicsHead : public PointHead {
 public:
  HarmonicsHead(int64_t terms, int64_t outputs) : terms_(terms), outputs_(outputs) {}
  int64_t outputs() const override { return outputs_; }
  void decode(const MlpInput& in, int64_t n, float* out, std::vector<char>* record) const override;
  void go_back(const MlpInput& in, int64_t n, const float* out, const float* upstream, std::vector<char>& record,
               float* to_x) const override;

 private:
  int64_t terms_, outputs_;
};

}  // namespace polyfield
