#include "kernels/plane_fit.h"

#include <pybind11/stl.h>

#include <array>

#include "bindings/module.h"
#include "parallel.h"

POLYFIELD_BINDINGS(plane_fit) {
  m.def(
      "plane_fit",
      [](Address feet, Address normals, Address used, Address samples, int64_t per_cell, Address low, Address origin,
         int64_t cells, double side, double keep, std::array<double, 3> beyond, Address point, Address rank,
         Address direction) {
        const PlaneFitSetup setup = {at<const double>(feet),  at<const double>(normals), at<const uint8_t>(used),
                                     at<const int64_t>(samples), per_cell,               at<const double>(low),
                                     at<const double>(origin), side,                     keep,
                                     {0, beyond[0], beyond[1], beyond[2]}};
        parallel_for(cells, 64, [&](int64_t begin, int64_t end, int) {
          plane_fit().fit(setup, begin, end, at<double>(point), at<uint8_t>(rank), at<double>(direction));
        });
      },
      "Samples feet and normals [S, 3] float64, used [S] uint8; cells with samples [cells, per_cell] int64, low and "
      "origin [cells, 3] float64; to points [cells, 3] float64, ranks uint8 and directions [cells, 3] float64.",
      unlocked());
}
