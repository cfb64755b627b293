// Building the index of csrc/kernels/rbf_neighbours.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/rbf_neighbours.h"
#include "parallel.h"

namespace polyfield {

// Builds the index from the coarse to the fine: what can be near in a part of a cell is among what can be in the cell.
class RbfIndexBuilder {
 public:
  // centres [count, dim], finite, at least `neighbours` of them.
  RbfIndexBuilder(const float* centres, int64_t count, int dim, const float* extent, int neighbours)
      : centres_(centres), count_(count) {
    index_.dim = dim;
    index_.neighbours = neighbours;
    std::copy_n(extent, dim, index_.extent);
    lay_out();
    refine(grid());
    grow_tree();
  }

  int64_t size() const {
    return header + static_cast<int64_t>(nodes_.size() * sizeof(RbfNode) + (numbers_.size() + padding) * sizeof(float));
  }

  // to [size], aligned to 64.
  void write(char* to) {
    index_.nodes_at = header;
    index_.numbers_at = header + static_cast<int64_t>(nodes_.size() * sizeof(RbfNode));
    std::memcpy(to, &index_, sizeof index_);
    std::memcpy(to + index_.nodes_at, nodes_.data(), nodes_.size() * sizeof(RbfNode));
    std::memcpy(to + index_.numbers_at, numbers_.data(), numbers_.size() * sizeof(float));
    std::memset(to + index_.numbers_at + numbers_.size() * sizeof(float), 0, padding * sizeof(float));
  }

 private:
  static constexpr int64_t parents_of_a_task = 8;       // cells that are split
  static constexpr int64_t padding = rbf_longest_list;  // floats behind the last list: kernels read whole vectors
  static constexpr int deepest = -10;                   // level at which cells are no longer halved
  static constexpr int64_t hopeless = 1024;             // centres in the list of a cell without any: its parts' will be long too
  static constexpr float infinity = std::numeric_limits<float>::infinity();
  static constexpr int64_t header = (sizeof(RbfIndex) + 63) / 64 * 64;

  // A cell of side 2^level cells of the grid.
  struct Cell {
    int32_t place[rbf_most_dim];
    int64_t begin, count;  // of its candidates, in its generation; none: not worth a list
    bool inhabited;        // whether a centre lies in it
  };

  // Cells of one level with the centres that can be near in them, as numbers that rise within a cell.
  struct Generation {
    std::vector<Cell> cells;
    std::vector<int32_t> ids;
  };

  // Lists up to this length are not worth a halving: a vector or two of distances.
  int64_t short_enough() const { return (index_.neighbours * index_.dim + 4 + 15) / 16 * 16; }
  int parts() const { return 1 << index_.dim; }

  // Cells of the grid are nearly cubes, and about as many as centres.
  void lay_out() {
    for (int& cells : index_.cells) cells = 1;
    for (int64_t all = 2; all <= count_; all *= 2) {
      int longest = 0;
      for (int d = 1; d < index_.dim; ++d)
        if (index_.extent[d] / index_.cells[d] > index_.extent[longest] / index_.cells[longest]) longest = d;
      index_.cells[longest] *= 2;
    }
  }

  // The grid's cells with their candidates.
  Generation grid() const {
    Generation all;
    all.cells.push_back({{}, 0, count_, true});
    all.ids.resize(count_);
    std::iota(all.ids.begin(), all.ids.end(), 0);
    int level = 0;
    for (int d = 0; d < index_.dim; ++d)
      while (index_.cells[d] >> level > 1) ++level;
    for (; level > 0; --level) all = split(all, level);
    return all;
  }

  // Makes a node of every cell, halving those that have centres in them and still many candidates: there points are dense.
  void refine(Generation now) {
    const auto* cells = index_.cells;
    std::vector<int64_t> node_of(now.cells.size());
    for (size_t i = 0; i < node_of.size(); ++i) {
      const int32_t* place = now.cells[i].place;
      node_of[i] = (static_cast<int64_t>(place[2]) * cells[1] + place[1]) * cells[0] + place[0];
    }
    nodes_.resize(node_of.size());
    for (int level = 0; !now.cells.empty(); --level) {
      Generation crowded;
      std::vector<int64_t> next;
      for (size_t i = 0; i < node_of.size(); ++i) {
        const Cell& cell = now.cells[i];
        const int32_t* ids = now.ids.data() + cell.begin;
        if (level == deepest || !cell.inhabited || cell.count <= short_enough()) {
          nodes_[node_of[i]] = cell.count <= rbf_longest_list ? list(ids, cell.count) : RbfNode{0, 0};
          continue;
        }
        const auto first = static_cast<int64_t>(nodes_.size());
        nodes_[node_of[i]] = {first, -1};
        nodes_.resize(first + parts());
        for (int part = 0; part < parts(); ++part) next.push_back(first + part);
        Cell copy = cell;
        copy.begin = static_cast<int64_t>(crowded.ids.size());
        crowded.ids.insert(crowded.ids.end(), ids, ids + cell.count);
        crowded.cells.push_back(copy);
      }
      now = split(crowded, level);
      node_of = next;
    }
  }

  // The parts of all cells, one level finer: in the order of the cells, within one the first axis fastest.
  Generation split(const Generation& from, int level) const {
    const auto parents = static_cast<int64_t>(from.cells.size());
    std::vector<Generation> found((parents + parents_of_a_task - 1) / parents_of_a_task);
    parallel_tasks(static_cast<int64_t>(found.size()), [&](int64_t task, int) {
      const int64_t end = std::min(parents, (task + 1) * parents_of_a_task);
      Work work;
      for (int64_t p = task * parents_of_a_task; p < end; ++p) split_cell(from, from.cells[p], level, work, found[task]);
    });
    Generation all;
    for (Generation& some : found) {
      const auto before = static_cast<int64_t>(all.ids.size());
      for (Cell& cell : some.cells) cell.begin += before;
      all.cells.insert(all.cells.end(), some.cells.begin(), some.cells.end());
      all.ids.insert(all.ids.end(), some.ids.begin(), some.ids.end());
    }
    return all;
  }

  struct Work {
    std::vector<float> coordinates, scratch;
    std::vector<int32_t> kept;
  };

  void split_cell(const Generation& from, const Cell& parent, int level, Work& work, Generation& to) const {
    const int dim = index_.dim;
    const int64_t count = parent.count;
    const int32_t* ids = from.ids.data() + parent.begin;
    work.coordinates.resize(dim * count);
    work.scratch.resize((dim + 2) * (count + 16));
    work.kept.resize(count);
    for (int d = 0; d < dim; ++d)
      for (int64_t i = 0; i < count; ++i) work.coordinates[d * count + i] = centres_[int64_t{ids[i]} * dim + d];
    for (int part = 0; part < parts(); ++part) {
      Cell cell = {{}, static_cast<int64_t>(to.ids.size()), 0, false};
      bool there = true;
      for (int d = 0; d < dim; ++d) {
        cell.place[d] = 2 * parent.place[d] + (part >> d & 1);
        there = there && (level <= 0 || cell.place[d] << (level - 1) < index_.cells[d]);
      }
      if (!there) continue;
      const RbfBox where = box(cell, level - 1);
      if (count > 0)
        cell.count = rbf_neighbours().prune({work.coordinates.data(), count, count}, where, index_.extent, dim,
                                            index_.neighbours, work.scratch.data(), work.kept.data());
      for (int64_t i = 0; i < cell.count && !cell.inhabited; ++i)
        cell.inhabited = holds(where, centres_ + int64_t{ids[work.kept[i]]} * dim);
      if (!cell.inhabited && cell.count > hopeless) cell.count = 0;
      for (int64_t i = 0; i < cell.count; ++i) to.ids.push_back(ids[work.kept[i]]);
      to.cells.push_back(cell);
    }
  }

  // A little too large, since the cell of a point is found with rounding.
  RbfBox box(const Cell& cell, int level) const {
    RbfBox box = {};
    for (int d = 0; d < index_.dim; ++d) {
      const double side = (level >= 0 ? double(1 << level) : 1. / double(1 << -level)) / index_.cells[d];
      const double low = cell.place[d] * side, high = std::min(1., low + side);
      box.middle[d] = static_cast<float>((low + high) / 2);
      box.half[d] = static_cast<float>((high - low) / 2 + 0x1p-21);
    }
    return box;
  }

  bool holds(const RbfBox& box, const float* centre) const {
    bool inside = true;
    for (int d = 0; d < index_.dim; ++d) inside = inside && std::abs(centre[d] - box.middle[d]) <= box.half[d];
    return inside;
  }

  RbfNode list(const int32_t* ids, int64_t count) {
    const auto first = static_cast<int64_t>(numbers_.size());
    numbers_.resize(first + (index_.dim + 1) * count);
    float* to = numbers_.data() + first;
    for (int d = 0; d < index_.dim; ++d)
      for (int64_t i = 0; i < count; ++i) *to++ = centres_[int64_t{ids[i]} * index_.dim + d];
    std::memcpy(to, ids, count * sizeof *ids);
    return {first, count};
  }

  // Groups of centres that lie near each other, then boxes around groups, until one group is left.
  void grow_tree() {
    const int dim = index_.dim;
    std::vector<int32_t> ids = in_order();
    index_.level_at[0] = static_cast<int64_t>(numbers_.size());
    std::vector<float> low, high;  // corners of the boxes of a level, box after box
    for (int64_t first = 0; first < count_; first += rbf_group) {
      const int64_t size = std::min<int64_t>(rbf_group, count_ - first);
      std::vector<float> lows(dim, infinity), highs(dim, -infinity);
      for (int d = 0; d < dim; ++d)
        for (int64_t i = 0; i < rbf_group; ++i) {
          const float at = i < size ? centres_[int64_t{ids[first + i]} * dim + d] : infinity;
          numbers_.push_back(at);
          lows[d] = std::min(lows[d], at);
          if (i < size) highs[d] = std::max(highs[d], at);
        }
      for (int64_t i = 0; i < rbf_group; ++i) {
        numbers_.push_back(0.f);
        if (i < size) std::memcpy(&numbers_.back(), &ids[first + i], sizeof(float));
      }
      low.insert(low.end(), lows.begin(), lows.end());
      high.insert(high.end(), highs.begin(), highs.end());
    }
    index_.levels = 1;
    for (bool top = count_ <= rbf_group; !top; ++index_.levels) {
      const auto boxes = static_cast<int64_t>(low.size()) / dim;
      index_.level_at[index_.levels] = static_cast<int64_t>(numbers_.size());
      std::vector<float> around_low, around_high;
      for (int64_t first = 0; first < boxes; first += rbf_group)
        for (const bool upper : {false, true})
          for (int d = 0; d < dim; ++d) {
            float& edge = (upper ? around_high : around_low).emplace_back(upper ? -infinity : infinity);
            for (int64_t i = first; i < first + rbf_group; ++i) {
              const bool there = i < boxes;
              const float at = there ? (upper ? high : low)[i * dim + d] : infinity;
              numbers_.push_back(at);
              if (there) edge = upper ? std::max(edge, at) : std::min(edge, at);
            }
          }
      low = std::move(around_low);
      high = std::move(around_high);
      top = boxes <= rbf_group;
    }
  }

  // All centres along a curve that fills space (the bits of their coordinates, interleaved).
  std::vector<int32_t> in_order() const {
    float longest = 0.f;
    for (int d = 0; d < index_.dim; ++d) longest = std::max(longest, index_.extent[d]);
    std::vector<uint64_t> keys(count_);
    for (int64_t i = 0; i < count_; ++i)
      for (int d = 0; d < index_.dim; ++d) {
        const float share = centres_[i * index_.dim + d] * index_.extent[d] / longest;
        const auto place = static_cast<uint64_t>(std::clamp(share, 0.f, 1.f) * 1048575.f);
        for (int bit = 0; bit < 20; ++bit) keys[i] |= (place >> bit & 1) << (bit * index_.dim + d);
      }
    std::vector<int32_t> ids(count_);
    std::iota(ids.begin(), ids.end(), 0);
    std::sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return keys[a] != keys[b] ? keys[a] < keys[b] : a < b; });
    return ids;
  }

  const float* centres_;
  int64_t count_;
  RbfIndex index_ = {};
  std::vector<RbfNode> nodes_;
  std::vector<float> numbers_;
};

}  // namespace polyfield
