// Picking rows of several arrays at once: what compaction of samples needs, in one pass over the row numbers.
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

// Any elements of 4 bytes, `width` of them a row; element f of row n lies at from[n * row + f * column].
struct RowArray {
  const uint32_t* from;
  uint32_t* to;  // row after row, without gaps
  int64_t width, row, column;
};

struct RowsKernels {
  // Row n of `to` is row rows[n] of `from`, for n in [begin, end), for every array.
  void (*take)(const int64_t* rows, int64_t begin, int64_t end, const RowArray* arrays, int count);
};

POLYFIELD_FAMILY(RowsKernels, rows)

}  // namespace polyfield
