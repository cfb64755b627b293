#include "kernels/rbf_neighbours.h"

#include "bindings/module.h"
#include "parallel.h"
#include "rbf_index.h"

POLYFIELD_BINDINGS(rbf_neighbours) {
  // Centres [count, dim]; `write` takes `size` bytes, aligned to 64.
  py::class_<RbfIndexBuilder>(m, "RbfIndexBuilder")
      .def(py::init([](Address centres, int64_t count, int dim, Address extent, int neighbours) {
             return RbfIndexBuilder(at<const float>(centres), count, dim, at<const float>(extent), neighbours);
           }),
           unlocked())
      .def_property_readonly("size", &RbfIndexBuilder::size)
      .def("write", [](RbfIndexBuilder& builder, Address to) { builder.write(at<char>(to)); }, unlocked());
  m.def(
      "rbf_nearest",
      [](Address index, Address x, int64_t points, Address ids) {
        parallel_for(points, 256, [&](int64_t begin, int64_t end, int) {
          rbf_neighbours().nearest(*at<const RbfIndex>(index), at<const float>(x), at<int32_t>(ids), begin, end);
        });
      },
      unlocked());
}
