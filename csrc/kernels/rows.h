// Picking rows of several arrays at once, one by one or in runs: what compaction of samples needs, in one pass.
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

// Runs of rows: counts[k] of them, from row from_starts[k] on, go to row to_starts[k] and those behind it.
struct RowRuns {
  const int64_t *to_starts, *from_starts, *counts;
};

struct RowsKernels {
  // Row n of `to` is row rows[n] of `from`, for n in [begin, end), for every array.
  void (*take)(const int64_t* rows, int64_t begin, int64_t end, const RowArray* arrays, int count);
  // Copies runs [begin, end) of every array.
  void (*copy_runs)(const RowRuns& runs, int64_t begin, int64_t end, const RowArray* arrays, int count);
};

POLYFIELD_FAMILY(RowsKernels, rows)

}  // namespace polyfield
