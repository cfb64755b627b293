#include "point_head.h"

#include <algorithm>

#include "parallel.h"
#include "room.h"

namespace polyfield {
namespace {

constexpr int64_t most_kept = 256 << 20;  // bytes of a network's activations; those beyond are computed again
constexpr int64_t block = 256;            // points that are turned from rows into columns, or back, in the cache
constexpr int64_t most_terms = 64;        // of spherical harmonics: eight bands

int64_t columns_of(const MlpInput& in) { return in.x_columns + in.condition_columns; }

float entry(const MlpInput& in, int64_t i, int64_t column) {
  if (column < in.x_columns) return in.x.data[i * in.x.point + column * in.x.feature];
  return in.condition[in.rows[i] * in.condition_columns + column - in.x_columns];
}

// Calls body(point, column) for all of n rows of so many columns, block by block.
template <class Body>
void each_entry(int64_t n, int64_t columns, Body&& body) {
  parallel_for(n, block, [&](int64_t begin, int64_t end, int) {
    for (int64_t first = begin; first < end; first += block)
      for (int64_t f = 0; f < columns; ++f)
        for (int64_t i = first; i < std::min(first + block, end); ++i) body(i, f);
  });
}

MlpSaved saved(const MlpShape& shape, bool bf16, int64_t n, std::vector<char>& record) {
  const int64_t points = std::min(n, most_kept / mlp().saved_bytes(shape, bf16, 64) * 64);
  return {room(record, mlp().saved_bytes(shape, bf16, points)), points};
}

// [column][point]: squares, then the entries. They last until the next call.
MlpInput with_squares(const MlpInput& in, int64_t n) {
  thread_local std::vector<float> memory;
  const int64_t columns = columns_of(in);
  float* out = room(memory, 2 * columns * n);
  each_entry(n, columns, [&](int64_t i, int64_t f) {
    const float x = entry(in, i, f);
    out[f * n + i] = x * x;
    out[(columns + f) * n + i] = x;
  });
  return {{out, 1, n}, 2 * columns, nullptr, nullptr, 0, 0};
}

}  // namespace

void NetworkHead::decode(const MlpInput& in, int64_t n, float* out, std::vector<char>* record) const {
  const MlpSaved kept = record == nullptr ? MlpSaved{nullptr, 0} : saved(shape_, bf16_, n, *record);
  mlp().forward(shape_, in, weights_, bf16_, {out, shape_.outputs, 1}, n, kept);
}

void NetworkHead::go_back(const MlpInput& in, int64_t n, const float* out, const float* upstream,
                          std::vector<char>& record, float* to_x) const {
  const int64_t width = shape_.outputs;
  mlp().backward(shape_, in, weights_, bf16_, {{upstream, width, 1}, {out, width, 1}},
                 {{to_x, in.x.point, in.x.feature}, gradient_, nullptr}, n, saved(shape_, bf16_, n, record));
}

void SquaresHead::decode(const MlpInput& in, int64_t n, float* out, std::vector<char>* record) const {
  network_.decode(with_squares(in, n), n, out, record);
}

void SquaresHead::go_back(const MlpInput& in, int64_t n, const float* out, const float* upstream,
                          std::vector<char>& record, float* to_x) const {
  thread_local std::vector<float> memory;
  const MlpInput both = with_squares(in, n);
  float* to_both = room(memory, both.x_columns * n);
  network_.go_back(both, n, out, upstream, record, to_both);
  const float* to_entries = to_both + columns_of(in) * n;
  each_entry(n, in.x_columns, [&](int64_t i, int64_t f) {
    to_x[i * in.x.point + f * in.x.feature] = 2.f * entry(in, i, f) * to_both[f * n + i] + to_entries[f * n + i];
  });
}

void SumHead::decode(const MlpInput& in, int64_t n, float* out, std::vector<char>*) const {
  std::fill_n(out, n, 0.f);
  each_entry(n, columns_of(in), [&](int64_t i, int64_t f) { out[i] += entry(in, i, f); });
  for (int64_t i = 0; i < n; ++i) out[i] += shift_;
}

void SumHead::go_back(const MlpInput& in, int64_t n, const float*, const float* upstream, std::vector<char>&,
                      float* to_x) const {
  each_entry(n, in.x_columns, [&](int64_t i, int64_t f) { to_x[i * in.x.point + f * in.x.feature] = upstream[i]; });
}

void IdentityHead::decode(const MlpInput& in, int64_t n, float* out, std::vector<char>*) const {
  each_entry(n, columns_, [&](int64_t i, int64_t f) { out[i * columns_ + f] = entry(in, i, f); });
}

void IdentityHead::go_back(const MlpInput& in, int64_t n, const float*, const float* upstream, std::vector<char>&,
                           float* to_x) const {
  each_entry(n, in.x_columns, [&](int64_t i, int64_t f) {
    to_x[i * in.x.point + f * in.x.feature] = upstream[i * columns_ + f];
  });
}

void HarmonicsHead::decode(const MlpInput& in, int64_t n, float* out, std::vector<char>*) const {
  parallel_for(n, block, [&](int64_t begin, int64_t end, int) {
    float basis[most_terms];
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t k = 0; k < terms_; ++k) basis[k] = entry(in, i, 1 + outputs_ * terms_ + k);
      for (int64_t c = 0; c < outputs_; ++c) {
        float sum = 0.f;
        for (int64_t k = 0; k < terms_; ++k) sum += entry(in, i, 1 + c * terms_ + k) * basis[k];
        out[i * outputs_ + c] = sum;
      }
    }
  });
}

void HarmonicsHead::go_back(const MlpInput& in, int64_t n, const float*, const float* upstream, std::vector<char>&,
                            float* to_x) const {
  parallel_for(n, block, [&](int64_t begin, int64_t end, int) {
    float basis[most_terms];
    for (int64_t i = begin; i < end; ++i) {
      const float* to_outputs = upstream + i * outputs_;
      float* to = to_x + i * in.x.point;
      for (int64_t k = 0; k < terms_; ++k) basis[k] = entry(in, i, 1 + outputs_ * terms_ + k);
      to[0] = 0.f;
      for (int64_t c = 0, f = 1; c < outputs_; ++c)
        for (int64_t k = 0; k < terms_ && f < in.x_columns; ++k, ++f)  // the others are the condition's
          to[f * in.x.feature] = to_outputs[c] * basis[k];
      for (int64_t f = 1 + outputs_ * terms_, k = 0; f < in.x_columns; ++f, ++k) {  // a basis among the features
        float sum = 0.f;
        for (int64_t c = 0; c < outputs_; ++c) sum += to_outputs[c] * entry(in, i, 1 + c * terms_ + k);
        to[f * in.x.feature] = sum;
      }
    }
  });
}

}  // namespace polyfield
