#include "kernels/mesh_rays.h"

#include <algorithm>

#include "bindings/module.h"
#include "mesh_tree.h"
#include "parallel.h"

POLYFIELD_BINDINGS(mesh_rays) {
  m.def(
      "mesh_first_hits",
      [](const MeshTree& tree, Address origins, Address directions, int64_t n, Address distance, Address face,
         Address weights) {
        const MeshTreeView view = tree.view();
        constexpr int64_t block = 512;  // rays beside each other meet much the same
        parallel_tasks((n + block - 1) / block, [&](int64_t task, int) {
          mesh_rays().first_hits(view, at<const float>(origins), at<const float>(directions), task * block,
                                 std::min(n, (task + 1) * block), at<float>(distance), at<int64_t>(face),
                                 at<float>(weights));
        });
      },
      "Origins and unit directions [n, 3] float32 to distance float32, face int64 and the weights [n, 2] float32 of "
      "its second and third corner.",
      unlocked());
}
