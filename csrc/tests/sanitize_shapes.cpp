// Drives the tree over the triangles of a mesh, and marching cubes: see sanitize.cpp.
#include "kernels/mesh_distance.h"
#include "kernels/mesh_rays.h"
#include "mesh_tree.h"
#include "parallel.h"
#include "point_order.h"
#include "slab_mesher.h"
#include "tests/watched.h"

using namespace polyfield;

namespace {

// Triangles anywhere in [0, 3]^3, every third of them flat, and a vertex that belongs to none.
MeshTree some_triangles(int64_t faces) {
  const int64_t vertices = 3 * faces + 1;
  Buffer<double> positions(3 * vertices);
  for (int64_t i = 0; i < 3 * vertices; ++i) positions[i] = 3 * next_random();
  Buffer<int64_t> corners(3 * faces);
  for (int64_t i = 0; i < 3 * faces; ++i) corners[i] = i;
  for (int64_t f = 1; f < faces; f += 3) corners[3 * f + 2] = corners[3 * f];
  return MeshTree(positions, vertices, corners, faces, mesh_distance().width);
}

}  // namespace

POLYFIELD_DRIVER(mesh_distance, int64_t n) {
  const int64_t faces = n + 1;
  const MeshTree tree = some_triangles(faces);
  const MeshTreeView view = tree.view();

  Buffer<double> points(3 * n);
  for (int64_t i = 0; i < 3 * n; ++i) points[i] = 6 * next_random() - 1;
  if (n > 3) points[4] = NAN, points[6] = 1e300, points[10] = -INFINITY;
  const std::vector<int32_t> order = point_order(points, n, view.middle, view.size);
  expect(static_cast<int64_t>(order.size()) == n, "point_order: points are missing");
  Floats distance(n), closest(3 * n), winding(n), shared(n);
  Buffer<int64_t> face(n);
  parallel_for(n, 16, [&](int64_t begin, int64_t end, int) {
    mesh_distance().closest(view, points, order.data(), begin, end, distance, face, closest);
    mesh_distance().winding(view, points, order.data(), nullptr, begin, end, winding);
  });
  parallel_for(n, 16, [&](int64_t begin, int64_t end, int) {
    mesh_distance().winding(view, points, order.data(), distance, begin, end, shared);
  });
  for (int64_t i = 0; i < n; ++i) {
    const bool finite = std::isfinite(points[3 * i] + points[3 * i + 1] + points[3 * i + 2]);
    expect(finite ? face[i] >= 0 && face[i] < faces : face[i] == -1, "mesh_distance: a face that is not there");
    expect(std::isnan(distance[i]) == !finite && std::isnan(winding[i]) == !finite && std::isnan(shared[i]) == !finite,
           "mesh_distance: NaN at the wrong point");
  }
}

POLYFIELD_DRIVER(mesh_rays, int64_t n) {
  const int64_t faces = n + 1;
  const MeshTree tree = some_triangles(faces);
  const MeshTreeView view = tree.view();
  Floats origins = randoms(3 * n, -2.f, 5.f), directions = randoms(3 * n, -1.f, 1.f), distance(n), weights(2 * n);
  for (int64_t i = 0; i < n; i += 3) directions[3 * i] = directions[3 * i + 1] = 0.f;  // along an axis
  if (n > 3) origins[4] = NAN, directions[6] = INFINITY, origins[9] = 1e30f;
  Buffer<int64_t> face(n);
  parallel_for(n, 16, [&](int64_t begin, int64_t end, int) {
    mesh_rays().first_hits(view, origins, directions, begin, end, distance, face, weights);
  });
  for (int64_t i = 0; i < n; ++i) {
    const float b = weights[2 * i], c = weights[2 * i + 1];
    expect(face[i] >= -1 && face[i] < faces, "mesh_rays: a face that is not there");
    expect((face[i] < 0) == std::isinf(distance[i]) && distance[i] >= 0, "mesh_rays: a distance without a face");
    expect(b >= 0 && c >= 0 && b + c <= 1.000001f, "mesh_rays: a place beside the triangle");
  }
  if (n > 3) expect(face[1] == -1 && face[2] == -1 && face[3] == -1, "mesh_rays: a ray from nowhere meets something");
}

POLYFIELD_DRIVER(marching_cubes, int64_t n) {
  // Noise, so that every kind of cell is there, in slabs that overlap by a layer; and values that are not finite.
  const int64_t rows = 3, points = n + 2, layers = 6, size = rows * points;
  Floats values = randoms(layers * size, -1.f, 1.f);
  SlabMesher mesher(rows, points, 0.f, false);
  expect(mesher.add(values, 2) && mesher.add(values + size, layers - 1), "marching_cubes: values are finite");
  const int64_t vertices = mesher.vertex_count();
  for (int64_t i = 0; i < 3 * vertices; ++i)
    expect(mesher.vertices()[i] >= 0 && mesher.vertices()[i] <= points + layers, "marching_cubes: a vertex elsewhere");
  for (int64_t i = 0; i < 3 * mesher.triangle_count(); ++i)
    expect(mesher.triangles()[i] >= 0 && mesher.triangles()[i] < vertices, "marching_cubes: a vertex that is not there");
  values[n] = NAN;
  expect(!mesher.add(values, layers), "marching_cubes: NaN was taken");
  expect(mesher.vertex_count() == vertices, "marching_cubes: something of a refused slab was kept");
}
