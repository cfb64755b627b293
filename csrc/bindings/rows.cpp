#include "kernels/rows.h"

#include <pybind11/stl.h>

#include <tuple>
#include <vector>

#include "bindings/module.h"
#include "parallel.h"

POLYFIELD_BINDINGS(rows) {
  using Place = std::tuple<Address, Address, int64_t, int64_t, int64_t>;
  m.def(
      "take_rows",
      [](Address rows_address, int64_t n, const std::vector<Place>& places) {
        std::vector<RowArray> arrays;
        for (const auto& [from, to, width, row, column] : places)
          arrays.push_back({at<const uint32_t>(from), at<uint32_t>(to), width, row, column});
        const auto* picks = at<const int64_t>(rows_address);
        py::gil_scoped_release release;
        const RowsKernels& kernels = rows();
        parallel_for(n, 2048, [&](int64_t begin, int64_t end, int) {
          kernels.take(picks, begin, end, arrays.data(), static_cast<int>(arrays.size()));
        });
      },
      "Rows of several arrays of 4-byte elements: (from, to, width, row stride, column stride) each.");
}
