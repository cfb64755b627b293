#include "kernels/rows.h"

namespace polyfield {
namespace POLYFIELD_ISA {

template <int width>
static inline void copy_row(const uint32_t* from, int64_t column, uint32_t* to) {
  if (column == 1) {
    __builtin_memcpy(to, from, width * sizeof(uint32_t));
  } else {
    for (int f = 0; f < width; ++f) to[f] = from[f * column];
  }
}

template <int width>
static void take_width(const int64_t* rows, int64_t begin, int64_t end, const RowArray& array) {
  for (int64_t n = begin; n < end; ++n)
    copy_row<width>(array.from + rows[n] * array.row, array.column, array.to + n * width);
}

static void take_any(const int64_t* rows, int64_t begin, int64_t end, const RowArray& array) {
  for (int64_t n = begin; n < end; ++n)
    for (int64_t f = 0; f < array.width; ++f)
      array.to[n * array.width + f] = array.from[rows[n] * array.row + f * array.column];
}

static void take(const int64_t* rows, int64_t begin, int64_t end, const RowArray* arrays, int count) {
  for (int i = 0; i < count; ++i) {
    const RowArray& array = arrays[i];
    switch (array.width) {
      case 1: take_width<1>(rows, begin, end, array); break;
      case 3: take_width<3>(rows, begin, end, array); break;
      case 16: take_width<16>(rows, begin, end, array); break;
      default: take_any(rows, begin, end, array);
    }
  }
}

// Runs are short, a dozen elements or so: a call of the library's copy would cost more than the copying.
template <int width>
static void copy_width(const RowRuns& runs, int64_t begin, int64_t end, const RowArray& array) {
  for (int64_t k = begin; k < end; ++k) {
    const uint32_t* from = array.from + runs.from_starts[k] * array.row;
    uint32_t* to = array.to + runs.to_starts[k] * width;
    for (int64_t n = 0; n < runs.counts[k]; ++n, from += array.row, to += width)
      copy_row<width>(from, array.column, to);
  }
}

static void copy_any(const RowRuns& runs, int64_t begin, int64_t end, const RowArray& array) {
  for (int64_t k = begin; k < end; ++k)
    for (int64_t n = 0; n < runs.counts[k]; ++n)
      for (int64_t f = 0; f < array.width; ++f)
        array.to[(runs.to_starts[k] + n) * array.width + f] =
            array.from[(runs.from_starts[k] + n) * array.row + f * array.column];
}

static void copy_runs(const RowRuns& runs, int64_t begin, int64_t end, const RowArray* arrays, int count) {
  for (int i = 0; i < count; ++i) {
    const RowArray& array = arrays[i];
    switch (array.width) {
      case 1: copy_width<1>(runs, begin, end, array); break;
      case 3: copy_width<3>(runs, begin, end, array); break;
      case 16: copy_width<16>(runs, begin, end, array); break;
      default: copy_any(runs, begin, end, array);
    }
  }
}

const RowsKernels rows = {take, copy_runs};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
