// Upkeep of an occupancy grid: cells to look at, points in them, and distances for the ray marcher.
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

struct CellGrid {
  float center[3], half_size[3];  // of the finest level's box
  int64_t resolution;             // a power of two, <= 256
};

struct OccupancyKernels {
  // ids[i], i in [begin, end): a uniform draw from list [total], or from 0 .. total - 1 when list is null.
  void (*pick)(uint64_t seed, const int64_t* list, int64_t total, int64_t begin, int64_t end, int64_t* ids);
  // ids[i], i in [begin, end): of a uniform draw from list [total], one of the 27 cells around and in it; the drawn cell
  // itself when that lies beyond the level or is carved away (values[id] < 0).
  void (*pick_near)(uint64_t seed, const int64_t* list, int64_t total, const float* values, int64_t resolution,
                    int64_t begin, int64_t end, int64_t* ids);
  // points[i]: a random point of cell ids[i].
  void (*points)(const CellGrid& grid, uint64_t seed, const int64_t* ids, int64_t begin, int64_t end, float* points);
  // values = occupied ? above threshold (or, from_equal, not below it) : 0; returns how many are.
  int64_t (*mark)(const float* values, float threshold, bool from_equal, int64_t begin, int64_t end,
                  uint8_t* occupied);
  // Adds up the values that are neither negative nor infinite, and counts them.
  void (*sum_seen)(const float* values, int64_t begin, int64_t end, double* sum, double* count);
  // One level's distances from one byte a cell (1 = obstacle), at most 120: enough, as a jump may fall short.
  void (*distances)(const uint8_t* obstacles, int64_t resolution, uint8_t* distance);
};

POLYFIELD_FAMILY(OccupancyKernels, occupancy)

}  // namespace polyfield
