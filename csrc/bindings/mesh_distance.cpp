#include "kernels/mesh_distance.h"

#include <memory>

#include "bindings/module.h"
#include "mesh_tree.h"
#include "parallel.h"
#include "point_order.h"

namespace polyfield {
namespace {

constexpr int64_t block = 512;  // points for which a thread works alone, starting from nothing

// Calls work(view, order, begin, end) for blocks of points that lie near each other.
template <class Work>
void in_order(const MeshTree& tree, const double* points, int64_t n, Work&& work) {
  const MeshTreeView view = tree.view();
  const std::vector<int32_t> order = point_order(points, n, view.middle, view.size);
  parallel_tasks((n + block - 1) / block, [&](int64_t task, int) {
    work(view, order.data(), task * block, std::min(n, (task + 1) * block));
  });
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(mesh_distance) {
  py::class_<MeshTree>(m, "MeshTree")
      .def(py::init([](Address vertices, int64_t vertex_count, Address faces, int64_t face_count) {
             return std::make_unique<MeshTree>(at<const double>(vertices), vertex_count, at<const int64_t>(faces),
                                               face_count, mesh_distance().width);
           }),
           "Vertices [V, 3] float64 and faces [F, 3] int64; both are copied.", unlocked())
      .def(
          "closest",
          [](const MeshTree& tree, Address points, int64_t n, Address distance, Address face, Address closest) {
            in_order(tree, at<const double>(points), n,
                     [&](const MeshTreeView& view, const int32_t* order, int64_t begin, int64_t end) {
                       mesh_distance().closest(view, at<const double>(points), order, begin, end, at<float>(distance),
                                               at<int64_t>(face), at<float>(closest));
                     });
          },
          "Points [n, 3] float64 to distance float32, face int64 and closest point float32.", unlocked())
      .def(
          "winding",
          [](const MeshTree& tree, Address points, int64_t n, Address free, Address winding) {
            in_order(tree, at<const double>(points), n,
                     [&](const MeshTreeView& view, const int32_t* order, int64_t begin, int64_t end) {
                       mesh_distance().winding(view, at<const double>(points), order, at<const float>(free), begin, end,
                                               at<float>(winding));
                     });
          },
          "Points [n, 3] float64 to winding numbers, float32; `free` may be 0.", unlocked());
}
