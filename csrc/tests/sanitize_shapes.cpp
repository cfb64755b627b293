// Drives the tree over the triangles of a mesh, and marching cubes: see sanitize.cpp.
#include "kernels/mesh_distance.h"
#include "mesh_tree.h"
#include "parallel.h"
#include "point_order.h"
#include "slab_mesher.h"
#include "tests/watched.h"

using namespace polyfield;

POLYFIELD_DRIVER(mesh_distance, int64_t n) {
  // n + 1 triangles anywhere, every third of them flat, and a vertex that belongs to none.
  const int64_t faces = n + 1, vertices = 3 * faces + 1;
  Buffer<double> positions(3 * vertices);
  for (int64_t i = 0; i < 3 * vertices; ++i) positions[i] = 3 * next_random();
  Buffer<int64_t> corners(3 * faces);
  for (int64_t i = 0; i < 3 * faces; ++i) corners[i] = i;
  for (int64_t f = 1; f < faces; f += 3) corners[3 * f + 2] = corners[3 * f];
  const MeshTree tree(positions, vertices, corners, faces, mesh_distance().width);
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
