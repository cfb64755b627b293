#include "kernels/rows.h"

namespace polyfield {
namespace POLYFIELD_ISA {

template <int width>
static void take_width(const int64_t* rows, int64_t begin, int64_t end, const RowArray& array) {
  for (int64_t n = begin; n < end; ++n) {
    const uint32_t* from = array.from + rows[n] * array.row;
    uint32_t* to = array.to + n * width;
    if (array.column == 1) {
      __builtin_memcpy(to, from, width * sizeof(uint32_t));
    } else {
      for (int f = 0; f < width; ++f) to[f] = from[f * array.column];
    }
  }
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

const RowsKernels rows = {take};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
