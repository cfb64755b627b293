// The K nearest of many fixed centres, exactly. Points lie in cells of a grid; cells with many centres are halved along
// each axis until few are left that can be among the K nearest of any of their points, and each cell lists those. Where
// lists would be long (far from all centres, or outside [0, 1]^dim) a tree of boxes is walked instead.
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

constexpr int rbf_most_dim = 3, rbf_most_neighbours = 16;

constexpr int64_t rbf_longest_list = 128;
constexpr int rbf_group = 16, rbf_most_levels = 8;  // of the tree: a group of boxes lies in one box of the level above

// count > 0: a list. -1: a cell that was halved; its 2^dim parts begin at node `first`, the first axis runs fastest.
// 0: the tree must be walked.
struct RbfNode {
  int64_t first;  // of a list: where in `numbers` it begins
  int64_t count;
};

// Distances are between points times `extent`. A list of n centres holds n first coordinates, ..., n last ones, and n
// ids (as int32), rising. A group of the tree's lowest level is such a list of rbf_group centres; of the levels above it
// holds the low corners of boxes and then the high ones. Where a group is not full, its places are at infinity.
struct RbfIndex {
  int32_t dim, neighbours;
  int32_t cells[rbf_most_dim];  // of the grid over [0, 1]^dim, along each axis
  float extent[rbf_most_dim];
  int32_t levels;                    // of the tree; the highest is one group
  int64_t level_at[rbf_most_levels];  // where in `numbers` each begins
  int64_t nodes_at, numbers_at;      // bytes from the index's own begin; the grid's nodes come first
};

// What a cell's list is drawn from: coordinates as in a list, but `stride` apart.
struct RbfCandidates {
  const float* coordinates;
  int64_t stride, count;
};

struct RbfBox {
  float middle[rbf_most_dim], half[rbf_most_dim];
};

struct RbfNeighboursKernels {
  // ids [points, neighbours], near to far, of equally far ones the lower first; -1 where a point is not
  // finite.
  void (*nearest)(const RbfIndex& index, const float* x, int32_t* ids, int64_t begin, int64_t end);
  // Finds which of the candidates (whose ids rise) can be among the `neighbours` nearest of a point of the box, of
  // equally far ones the lower: writes their numbers, rising, to kept [count], and returns how many. Some may be more
  // than needed, none is missing. Scratch: (dim + 2) * (count + 16) floats.
  int64_t (*prune)(const RbfCandidates& candidates, const RbfBox& box, const float* extent, int dim, int neighbours,
                   float* scratch, int32_t* kept);
};

POLYFIELD_FAMILY(RbfNeighboursKernels, rbf_neighbours)

}  // namespace polyfield
