// Building the tree of kernels/mesh_distance.h.
//
// The tree is nothing but an order of the triangles: ranges are halved, across the longest side of the box around their
// triangles' middles, at multiples of powers of W, so that all leaves and nodes but the last are full.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/mesh_distance.h"
#include "parallel.h"

namespace polyfield {

class MeshTree {
 public:
  // vertices [V, 3] finite; faces [face_count, 3] in [0, V), fewer than 2^31; not all corners at one place.
  MeshTree(const double* vertices, int64_t vertex_count, const int64_t* faces, int64_t face_count, int width)
      : width_(width), vertices_(vertices, vertices + 3 * vertex_count), corners_(faces, faces + 3 * face_count) {
    place();
    std::vector<Middle> order = sorted();
    fill_leaves(order);
    count_nodes();
    std::vector<Sums> sums = leaf_sums();
    for (size_t level = 0; level < first_.size(); ++level) sums = fill_level(level, sums);
  }

  MeshTreeView view() const {
    return {static_cast<int>(first_.size()), first_.data(), boxes_.data(), dipoles_.data(), triangles_.data(),
            faces_.data(), vertices_.data(), corners_.data(), {middle_[0], middle_[1], middle_[2]}, size_};
  }

 private:
  struct Middle {
    float at[3];
    int32_t face;
  };
  struct Sums {  // over the triangles of a leaf or node
    double area, middle[3], normal[3];  // `middle` times area
    float low[3], high[3];
  };

  int64_t face_count() const { return static_cast<int64_t>(corners_.size() / 3); }
  int64_t leaf_count() const { return (face_count() + width_ - 1) / width_; }

  // Corner k of a face.
  double coordinate(int64_t face, int k, int axis) const {
    return vertices_[3 * static_cast<int64_t>(corners_[3 * face + k]) + axis];
  }

  void place() {
    for (int a = 0; a < 3; ++a) {
      double low = std::numeric_limits<double>::infinity(), high = -low;
      for (const int32_t v : corners_) {
        const double x = vertices_[3 * static_cast<int64_t>(v) + a];
        low = std::min(low, x), high = std::max(high, x);
      }
      middle_[a] = low / 2 + high / 2;
      size_ = std::max(size_, high / 2 - low / 2);
    }
    for (size_t i = 0; i < vertices_.size(); ++i) vertices_[i] = (vertices_[i] - middle_[i % 3]) / size_;
  }

  std::vector<Middle> sorted() const {
    std::vector<Middle> order(face_count());
    parallel_for(face_count(), 4096, [&](int64_t begin, int64_t end, int) {
      for (int64_t f = begin; f < end; ++f) {
        for (int a = 0; a < 3; ++a)
          order[f].at[a] = static_cast<float>((coordinate(f, 0, a) + coordinate(f, 1, a) + coordinate(f, 2, a)) / 3);
        order[f].face = static_cast<int32_t>(f);
      }
    });
    using Range = std::pair<int64_t, int64_t>;
    std::vector<Range> ranges = {{0, face_count()}};
    while (!ranges.empty()) {
      std::vector<int64_t> cuts(ranges.size());
      parallel_tasks(static_cast<int64_t>(ranges.size()), [&](int64_t i, int) {
        cuts[i] = halve(order.data() + ranges[i].first, order.data() + ranges[i].second);
      });
      std::vector<Range> halves;
      for (size_t i = 0; i < ranges.size(); ++i) {
        const auto [begin, end] = ranges[i];
        if (cuts[i] > width_) halves.push_back({begin, begin + cuts[i]});
        if (end - begin - cuts[i] > width_) halves.push_back({begin + cuts[i], end});
      }
      if (ranges.size() == 1 && cuts[0] == 0) break;  // one leaf holds all
      ranges = std::move(halves);
    }
    return order;
  }

  // Puts lower triangles before higher ones; how many are lower.
  int64_t halve(Middle* begin, Middle* end) const {
    const int64_t count = end - begin;
    int64_t block = width_;
    while (block * width_ < count) block *= width_;
    const int64_t cut = (count + block - 1) / block / 2 * block;
    if (cut == 0) return 0;
    int axis = 0;
    float widest = -1;
    for (int a = 0; a < 3; ++a) {
      float low = begin->at[a], high = low;
      for (const Middle* m = begin; m < end; ++m) low = std::min(low, m->at[a]), high = std::max(high, m->at[a]);
      if (high - low > widest) widest = high - low, axis = a;
    }
    std::nth_element(begin, begin + cut, end, [axis](const Middle& x, const Middle& y) {
      return x.at[axis] != y.at[axis] ? x.at[axis] < y.at[axis] : x.face < y.face;
    });
    return cut;
  }

  void fill_leaves(const std::vector<Middle>& order) {
    triangles_.resize(leaf_count() * 19 * width_);
    faces_.resize(leaf_count() * width_);
    parallel_for(leaf_count(), 64, [&](int64_t begin, int64_t end, int) {
      for (int64_t slot = begin * width_; slot < end * width_; ++slot) {
        faces_[slot] = order[std::min(slot, face_count() - 1)].face;
        fill_triangle(faces_[slot], slot < face_count(), &triangles_[slot / width_ * 19 * width_ + slot % width_]);
      }
    });
  }

  // Or only one corner of it.
  void fill_triangle(int64_t face, bool whole, float* row) const {
    double u[3] = {}, v[3] = {};
    for (int a = 0; a < 3; ++a) {
      // Edges begin at the rounded corner, so that the other two corners are nearly exact.
      const float from = static_cast<float>(coordinate(face, 0, a));
      if (whole) u[a] = static_cast<float>(coordinate(face, 1, a) - from);
      if (whole) v[a] = static_cast<float>(coordinate(face, 2, a) - from);
      row[a * width_] = from;
    }
    const double uu = dot(u, u), uv = dot(u, v), vv = dot(v, v), square = uu * vv - uv * uv;
    constexpr double shortest = 1e-20, thinnest = 1e-12;
    const bool has_area = uu > shortest && vv > shortest && square > thinnest * uu * vv;
    double g[3] = {}, h[3] = {}, w[3];
    for (int a = 0; a < 3; ++a) {
      w[a] = v[a] - u[a];
      if (has_area) g[a] = (vv * u[a] - uv * v[a]) / square, h[a] = (uu * v[a] - uv * u[a]) / square;
      row[(3 + a) * width_] = static_cast<float>(u[a]), row[(6 + a) * width_] = static_cast<float>(v[a]);
      row[(9 + a) * width_] = static_cast<float>(g[a]), row[(12 + a) * width_] = static_cast<float>(h[a]);
    }
    const auto inverse = [](double x) { return static_cast<float>(x > shortest ? 1 / x : 0); };
    row[15 * width_] = inverse(uu), row[16 * width_] = inverse(vv), row[17 * width_] = inverse(dot(w, w));
    row[18 * width_] = has_area ? static_cast<float>(1 / dot(h, h)) : std::numeric_limits<float>::quiet_NaN();
  }

  static double dot(const double* a, const double* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

  void count_nodes() {
    int64_t nodes = 0, below = leaf_count();
    do {
      first_.push_back(nodes);
      below = (below + width_ - 1) / width_;
      nodes += below;
    } while (below > 1);
    boxes_.resize(nodes * 6 * width_);
    dipoles_.resize(nodes * 7 * width_);
  }

  std::vector<Sums> leaf_sums() const {
    std::vector<Sums> sums(leaf_count());
    parallel_for(leaf_count(), 64, [&](int64_t begin, int64_t end, int) {
      for (int64_t leaf = begin; leaf < end; ++leaf) {
        Sums& s = sums[leaf] = nothing();
        for (int64_t slot = leaf * width_; slot < std::min((leaf + 1) * width_, face_count()); ++slot) add(s, slot);
      }
    });
    return sums;
  }

  static Sums nothing() {
    constexpr float far = std::numeric_limits<float>::infinity();
    return {0, {0, 0, 0}, {0, 0, 0}, {far, far, far}, {-far, -far, -far}};
  }

  void add(Sums& s, int64_t slot) const {
    double u[3], v[3], middle[3];
    for (int a = 0; a < 3; ++a) {
      const double from = coordinate(faces_[slot], 0, a), second = coordinate(faces_[slot], 1, a),
                   third = coordinate(faces_[slot], 2, a);
      u[a] = second - from, v[a] = third - from, middle[a] = (from + second + third) / 3;
      s.low[a] = std::min(s.low[a], static_cast<float>(std::min({from, second, third})));
      s.high[a] = std::max(s.high[a], static_cast<float>(std::max({from, second, third})));
    }
    const double normal[3] = {u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]};
    const double area = std::sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2]) / 2;
    s.area += area;
    for (int a = 0; a < 3; ++a) s.middle[a] += area * middle[a], s.normal[a] += normal[a] / 2;
  }

  // Writes the nodes of a level from the sums of their children; their own sums.
  std::vector<Sums> fill_level(size_t level, const std::vector<Sums>& children) {
    const int64_t nodes = (static_cast<int64_t>(children.size()) + width_ - 1) / width_;
    int64_t faces_each = width_;
    for (size_t below = 0; below < level; ++below) faces_each *= width_;
    std::vector<Sums> sums(nodes, nothing());
    parallel_for(nodes, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t node = begin; node < end; ++node)
        for (int64_t lane = 0; lane < width_; ++lane) {
          const int64_t child = node * width_ + lane;
          const bool there = child < static_cast<int64_t>(children.size());
          const Sums& s = there ? children[child] : empty_;
          float* box = &boxes_[((first_[level] + node) * 6) * width_ + lane];
          for (int a = 0; a < 3; ++a) box[a * width_] = s.low[a], box[(3 + a) * width_] = s.high[a];
          fill_dipole(s, child * faces_each, (child + 1) * faces_each,
                      &dipoles_[((first_[level] + node) * 7) * width_ + lane]);
          Sums& total = sums[node];
          total.area += s.area;
          for (int a = 0; a < 3; ++a) {
            total.middle[a] += s.middle[a], total.normal[a] += s.normal[a];
            total.low[a] = std::min(total.low[a], s.low[a]), total.high[a] = std::max(total.high[a], s.high[a]);
          }
        }
    });
    return sums;
  }

  void fill_dipole(const Sums& s, int64_t begin, int64_t end, float* row) const {
    constexpr double beta = 2;  // Barill et al. 2018, section 3.2: a node counts as a dipole from beta radii on
    constexpr double nowhere = 1e15;  // an empty lane: farther than any point is placed
    end = std::min(end, face_count());
    double middle[3], radius = 0;
    for (int a = 0; a < 3; ++a)
      middle[a] = begin >= end ? nowhere : s.area > 0 ? s.middle[a] / s.area : (s.low[a] + s.high[a]) / 2.0;
    for (int64_t slot = begin; slot < end; ++slot)
      for (int k = 0; k < 3; ++k) {
        double square = 0;
        for (int a = 0; a < 3; ++a) square += std::pow(coordinate(faces_[slot], k, a) - middle[a], 2);
        radius = std::max(radius, square);
      }
    for (int a = 0; a < 3; ++a)
      row[a * width_] = static_cast<float>(middle[a]), row[(3 + a) * width_] = static_cast<float>(s.normal[a]);
    row[6 * width_] = static_cast<float>(beta * beta * radius);
  }

  const int64_t width_;
  std::vector<double> vertices_;
  std::vector<int32_t> corners_;
  double middle_[3] = {}, size_ = 0;
  const Sums empty_ = nothing();
  std::vector<int64_t> first_;
  std::vector<float> boxes_, dipoles_, triangles_;
  std::vector<int32_t> faces_;
};

}  // namespace polyfield
