#include "slab_mesher.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "cell_surface.h"
#include "parallel.h"

namespace polyfield {

SlabMesher::SlabMesher(int64_t rows, int64_t points, float level, bool below)
    : rows_(rows), points_(points), words_((points + 63) / 64), level_(level), below_(below) {}

bool SlabMesher::add(const float* values, int64_t layers) {
  const MarchingCubesKernels& kernels = marching_cubes();
  const int64_t size = rows_ * points_, bits = rows_ * words_;
  std::vector<uint64_t> inside(layers * bits);
  std::vector<uint8_t> strange(layers);
  parallel_for(layers, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < rows_; ++j)
        strange[i] |= !kernels.classify(values + i * size + j * points_, points_, level_, below_,
                                        inside.data() + i * bits + j * words_);
  });
  if (std::any_of(strange.begin(), strange.end(), [](uint8_t s) { return s != 0; })) return false;
  inside_ = std::move(inside);
  const auto row = [&](int64_t i, int64_t j) { return inside_.data() + i * bits + j * words_; };

  // How many vertices each row has, and then the number of its first one.
  std::vector<int32_t> k(layers * rows_), j(layers * rows_), i(layers * rows_);
  // A slab that goes on has its first layer's own vertices already.
  const auto known = [&](int64_t layer) { return begun_ > 0 && layer == 0; };
  if (known(0)) {
    std::copy(along_k_.end() - rows_, along_k_.end(), k.begin());
    std::copy(along_j_.end() - rows_, along_j_.end(), j.begin());
  }
  parallel_for(layers, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t a = begin; a < end; ++a)
      for (int64_t b = 0; b < rows_; ++b) {
        const int64_t at = a * rows_ + b;
        if (!known(a)) {
          k[at] = (int32_t)kernels.crossings_along(row(a, b), points_);
          j[at] = b + 1 < rows_ ? (int32_t)kernels.crossings_between(row(a, b), row(a, b + 1), words_) : 0;
        }
        i[at] = a + 1 < layers ? (int32_t)kernels.crossings_between(row(a, b), row(a + 1, b), words_) : 0;
      }
  });
  int64_t sum = vertex_count();
  const auto number = [&](int32_t& counted) {
    const int32_t count = counted;
    counted = (int32_t)sum;
    sum += count;
  };
  for (int64_t a = 0; a < layers; ++a)
    for (int64_t b = 0; b < rows_; ++b) {
      const int64_t at = a * rows_ + b;
      if (!known(a)) {
        number(k[at]);
        number(j[at]);
      }
      number(i[at]);
      if (sum > std::numeric_limits<int32_t>::max()) throw std::overflow_error("more vertices than 32 bits can count");
    }
  along_k_ = std::move(k);
  along_j_ = std::move(j);
  along_i_ = std::move(i);

  vertices_.resize(3 * sum);
  std::vector<Layer> made(layers - 1);
  parallel_tasks(layers, [&](int64_t a, int) {
    for (int64_t b = 0; b < rows_; ++b) {
      const int64_t at = a * rows_ + b;
      const float place[3] = {(float)(begun_ + a), (float)b, 0.f};
      const float* here = values + a * size + b * points_;
      if (!known(a)) {
        kernels.vertices_along(row(a, b), here, points_, level_, place, vertices_.data() + 3 * (int64_t)along_k_[at]);
        if (b + 1 < rows_)
          kernels.vertices_between(row(a, b), row(a, b + 1), here, here + points_, points_, level_, place, 1,
                                   vertices_.data() + 3 * (int64_t)along_j_[at]);
      }
      if (a + 1 < layers)
        kernels.vertices_between(row(a, b), row(a + 1, b), here, here + size, points_, level_, place, 0,
                                 vertices_.data() + 3 * (int64_t)along_i_[at]);
    }
    if (a + 1 < layers) triangles_of(a, values, made[a]);
  });

  std::vector<int64_t> own(layers), begin(layers);
  own[0] = sum;
  begin[0] = (int64_t)triangles_.size();
  for (int64_t a = 0; a + 1 < layers; ++a) {
    own[a + 1] = own[a] + (int64_t)made[a].own.size() / 3;
    begin[a + 1] = begin[a] + (int64_t)made[a].triangles.size();
  }
  if (own[layers - 1] > std::numeric_limits<int32_t>::max())
    throw std::overflow_error("more vertices than 32 bits can count");
  vertices_.resize(3 * own[layers - 1]);
  triangles_.resize(begin[layers - 1]);
  parallel_for(layers - 1, 1, [&](int64_t first, int64_t last, int) {
    for (int64_t a = first; a < last; ++a) {
      std::copy(made[a].own.begin(), made[a].own.end(), vertices_.begin() + 3 * own[a]);
      std::transform(made[a].triangles.begin(), made[a].triangles.end(), triangles_.begin() + begin[a],
                     [&](int32_t vertex) { return vertex < 0 ? (int32_t)(own[a] - 1 - vertex) : vertex; });
    }
  });
  begun_ += layers - 1;
  return true;
}

void SlabMesher::triangles_of(int64_t layer, const float* values, Layer& out) const {
  const MarchingCubesKernels& kernels = marching_cubes();
  std::vector<int32_t> triangles(15 * (points_ - 1));
  std::vector<IrregularCell> listed(points_ - 1);
  for (int64_t j = 0; j + 1 < rows_; ++j) {
    CellRow row = {};
    row.points = points_;
    for (int m = 0; m < 4; ++m) {
      const int64_t at = (layer + (m >> 1)) * rows_ + j + (m & 1);
      row.inside[m] = inside_.data() + at * words_;
      row.along_k[m] = along_k_[at];
    }
    for (int m = 0; m < 2; ++m) {
      row.along_j[m] = along_j_[(layer + m) * rows_ + j];
      row.along_i[m] = along_i_[layer * rows_ + j + m];
    }
    int64_t listed_count = 0;
    const int64_t count = kernels.triangles(cell_table(), row, triangles.data(), listed.data(), &listed_count);
    out.triangles.insert(out.triangles.end(), triangles.begin(), triangles.begin() + 3 * count);
    for (int64_t c = 0; c < listed_count; ++c) resolve(listed[c], layer, j, values, out);
  }
}

void SlabMesher::resolve(const IrregularCell& cell, int64_t layer, int64_t row, const float* values,
                         Layer& out) const {
  double corners[8];
  for (int c = 0; c < 8; ++c) {
    const int64_t at = ((layer + (c >> 2)) * rows_ + row + (c >> 1 & 1)) * points_ + cell.k + (c & 1);
    corners[c] = below_ ? (double)level_ - values[at] : (double)values[at] - level_;
  }
  const CellSurface surface = cell_surface(corners);
  const int32_t own = (int32_t)(out.own.size() / 3);
  for (int t = 0; t < surface.triangle_count; ++t)
    for (const uint8_t vertex : surface.triangles[t])
      out.triangles.push_back(vertex < 12 ? cell.vertices[vertex] : -1 - (own + vertex - 12));
  for (int v = 0; v < surface.own_count; ++v) {
    out.own.push_back((float)(begun_ + layer) + surface.own[v][0]);
    out.own.push_back((float)row + surface.own[v][1]);
    out.own.push_back((float)cell.k + surface.own[v][2]);
  }
}

}  // namespace polyfield
