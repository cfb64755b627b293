// The first triangle of a mesh that a ray meets.
#pragma once

#include <cstdint>

#include "dispatch.h"
#include "kernels/mesh_distance.h"

namespace polyfield {

struct MeshRayKernels {
  // For rays begin to end - 1, of unit directions: how far away the first triangle is, from 0 on; which; and the
  // weights of its second and third corner at the place, 0 or more and together at most 1. A ray that meets none, or is
  // not finite, gets infinity, face -1 and weights 0. Triangles count from both sides.
  void (*first_hits)(const MeshTreeView& tree, const float* origins, const float* directions, int64_t begin,
                     int64_t end, float* distance, int64_t* face, float* weights);
};

POLYFIELD_FAMILY(MeshRayKernels, mesh_rays)

}  // namespace polyfield
