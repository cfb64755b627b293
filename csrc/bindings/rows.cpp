#include "kernels/rows.h"

#include <pybind11/stl.h>

#include <tuple>
#include <vector>

#include "bindings/module.h"
#include "parallel.h"

namespace polyfield {
namespace {

using Place = std::tuple<Address, Address, int64_t, int64_t, int64_t>;

std::vector<RowArray> arrays_of(const std::vector<Place>& places) {
  std::vector<RowArray> arrays;
  for (const auto& [from, to, width, row, column] : places)
    arrays.push_back({at<const uint32_t>(from), at<uint32_t>(to), width, row, column});
  return arrays;
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(rows) {
  m.def(
      "take_rows",
      [](Address rows_address, int64_t n, const std::vector<Place>& places) {
        const auto arrays = arrays_of(places);
        const auto* picks = at<const int64_t>(rows_address);
        py::gil_scoped_release release;
        const RowsKernels& kernels = rows();
        parallel_for(n, 2048, [&](int64_t begin, int64_t end, int) {
          kernels.take(picks, begin, end, arrays.data(), static_cast<int>(arrays.size()));
        });
      },
      "Rows of several arrays of 4-byte elements: (from, to, width, row stride, column stride) each.");
  m.def(
      "copy_runs",
      [](Address to_starts, Address from_starts, Address counts, int64_t n, const std::vector<Place>& places) {
        const auto arrays = arrays_of(places);
        const RowRuns runs = {at<const int64_t>(to_starts), at<const int64_t>(from_starts), at<const int64_t>(counts)};
        py::gil_scoped_release release;
        const RowsKernels& kernels = rows();
        parallel_for(n, 256, [&](int64_t begin, int64_t end, int) {
          kernels.copy_runs(runs, begin, end, arrays.data(), static_cast<int>(arrays.size()));
        });
      },
      "Runs of rows of several arrays, as for take_rows.");
}
