#include <algorithm>
#include <memory>

#include "bindings/module.h"
#include "slab_mesher.h"

POLYFIELD_BINDINGS(marching_cubes) {
  py::class_<SlabMesher>(m, "SlabMesher")
      .def(py::init([](int64_t rows, int64_t points, float level, bool below) {
             return std::make_unique<SlabMesher>(rows, points, level, below);
           }),
           "Rows and points of a layer, 2 or more each; whether inside is below the level.")
      .def(
          "add",
          [](SlabMesher& self, Address values, int64_t layers) { return self.add(at<const float>(values), layers); },
          "The next 2 or more layers, float32, the first as the last one before; false where not all are finite.",
          unlocked())
      .def_property_readonly("vertex_count", &SlabMesher::vertex_count)
      .def_property_readonly("triangle_count", &SlabMesher::triangle_count)
      .def(
          "take",
          [](const SlabMesher& self, Address vertices, Address triangles) {
            std::copy_n(self.vertices(), 3 * self.vertex_count(), at<float>(vertices));
            std::copy_n(self.triangles(), 3 * self.triangle_count(), at<int64_t>(triangles));
          },
          "Vertices float32 in units of the lattice, and triangles int64.", unlocked());
}
