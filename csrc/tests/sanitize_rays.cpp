// Drives what rays and pictures go through: see sanitize.cpp.
#include "kernels/carve.h"
#include "kernels/adam.h"
#include "kernels/composite.h"
#include "kernels/domain.h"
#include "kernels/occupancy.h"
#include "kernels/pictures.h"
#include "kernels/ray_march.h"
#include "kernels/roulette.h"
#include "kernels/rows.h"
#include "parallel.h"
#include "tests/watched.h"

using namespace polyfield;

POLYFIELD_DRIVER(composite, int64_t rays) {
  Buffer<int64_t> offsets(rays + 1);
  for (int64_t r = 0; r < rays; ++r) offsets[r + 1] = offsets[r] + static_cast<int64_t>(next_random() * 300) % (r % 5 * 70 + 1);
  const int64_t n = offsets[rays];
  Floats sigma = randoms(n, 0, 9), rgb = randoms(3 * n, 0, 1), t0 = randoms(n, 0, 1), t1 = randoms(n, 0.9f, 2),
         background = randoms(3 * rays, 0, 1);
  Floats color(3 * rays), depth(rays), opacity(rays), left(rays), weights(n), to_sigma(n), to_rgb(3 * n),
      to_background(3 * rays);
  Buffer<int64_t> kept(rays);
  const CompositeInputs in = {sigma, rgb, t0, t1, offsets, background};
  parallel_for(rays, 4, [&](int64_t begin, int64_t end, int) {
    composite().forward(in, {color, depth, opacity, left, weights}, begin, end);
    composite().backward(in, weights, left, {color, nullptr, opacity, nullptr, weights}, {to_sigma, to_rgb, to_background},
                         begin, end);
    composite().visible(sigma, t0, t1, offsets, 1e-2f, begin, end, nullptr, kept);
  });
  expect_finite(color, "composite");
  expect_finite(to_sigma, "gradient of composite");
}

POLYFIELD_DRIVER(march, int64_t rays) {
  const int64_t resolution = 8, cells = resolution * resolution * resolution;
  Buffer<uint8_t> obstacles(2 * cells), distance(2 * cells);
  for (int64_t i = 0; i < 2 * cells; ++i) obstacles[i] = next_random() < 0.05f;
  for (int64_t level = 0; level < 2; ++level)
    occupancy().distances(obstacles + level * cells, resolution, distance + level * cells);
  const MarchGrid grid = {{0, 0, 0}, {1, 1, 1}, 2, static_cast<int32_t>(resolution), distance};
  Floats origins = randoms(3 * rays, -3, 3), directions = randoms(3 * rays, -1, 1), near(rays), far(rays, 1e9f),
         jitter = randoms(rays, 0, 0.99f);
  if (rays > 2) {
    origins[3] = std::nanf("");
    directions[6] = directions[7] = directions[8] = 0.f;
    far[0] = INFINITY;
  }
  const float inf = INFINITY, step = 0.05f, cone = 0.02f;
  const MarchStep even = {step, 0, 2 * step, inf, inf, inf, inf};
  const MarchStep growing = {step, cone, 2 * step, step / cone, 2 * step / cone, 1 / cone, 1 / cone + std::log(2.f) / cone};
  for (const MarchStep& steps : {even, growing}) {
    const MarchRays batch = {origins, directions, near, far, jitter};
    Buffer<RaySpan> spans(rays);
    Buffer<int32_t> first_run(rays), resume(rays);
    Floats thought = randoms(2 * cells, -1, 1);
    Buffer<int64_t> samples(rays), offsets(rays + 1);
    std::vector<MarchRun> runs(4096);
    const MarchStretch stretch = {nullptr, 50, 20.f, thought, resume};
    expect(ray_march().march(batch, grid, steps, stretch, 0, rays, spans, first_run, samples, runs.data(),
                             static_cast<int64_t>(runs.size())),
           "march: too many runs");
    for (int64_t r = 0; r < rays; ++r) offsets[r + 1] = offsets[r] + samples[r];
    const int64_t n = offsets[rays];
    Floats positions(3 * n), t0(n), t1(n);
    Buffer<int32_t> ids(n);
    ray_march().fill(batch, steps, 0, rays, spans, first_run, offsets, runs.data(), {positions, t0, t1, ids});
    Buffer<int64_t> found(n);
    parallel_for(n, 16, [&](int64_t begin, int64_t end, int) { ray_march().cells(grid, positions, begin, end, found); });
    for (int64_t i = 0; i < n; ++i) expect(found[i] >= 0 && found[i] < 2 * cells, "march: a cell outside the grid");
    expect_finite(positions, "march");
  }
}

POLYFIELD_DRIVER(pictures, int64_t n) {
  // Three images of 8 x 8, of which the pixels are drawn; the last one asked for is none.
  const int64_t starts[3] = {0, 64, 128}, widths[3] = {8, 8, 8};
  Buffer<uint8_t> bytes(3 * 64 * 4, 200);
  Buffer<int64_t> image(n), x(n), y(n);
  Floats rows = randoms(3 * 12, 0.5f, 1), places = randoms(2 * n, 0, 8), origins(3 * n), directions(3 * n), seen(4 * n);
  for (int64_t i = 0; i < n; ++i) image[i] = i % 3, x[i] = i % 8, y[i] = i / 8 % 8;
  const Pictures three = {bytes, 3 * 64, 4, starts, widths, 3};
  parallel_for(n, 16, [&](int64_t begin, int64_t end, int) {
    expect(pictures().rays(rows, 3, image, places, begin, end, origins, directions), "rays: a camera is missing");
    expect(pictures().gather(three, image, x, y, begin, end, seen), "pictures: a pixel is missing");
  });
  expect_finite(directions, "rays");
  expect_finite(seen, "pictures");
  if (n == 0) return;
  x[n - 1] = 1000;
  expect(!pictures().gather(three, image, x, y, n - 1, n, seen), "pictures: a pixel beyond the last");
  image[n - 1] = 3;
  expect(!pictures().rays(rows, 3, image, places, n - 1, n, origins, directions), "rays: a camera beyond the last");
}

POLYFIELD_DRIVER(upkeep, int64_t n) {
  const CellGrid grid = {{0, 0, 0}, {1, 1, 1}, 8};
  Buffer<int64_t> ids(n), near(n), every(512);
  for (int64_t i = 0; i < 512; ++i) every[i] = i;
  Floats points(3 * n), values = randoms(n, -0.1f, 1), kept_values = randoms(512, -1, 1);
  Buffer<uint8_t> occupied(n), kept(8 * 8 * 8, 1);
  std::vector<double> sums(2 * thread_count());
  parallel_for(n, 16, [&](int64_t begin, int64_t end, int t) {
    occupancy().pick(7, nullptr, 512, begin, end, ids);
    occupancy().pick_near(8, every, 512, kept_values, 8, begin, end, near);
    occupancy().points(grid, 9, ids, begin, end, points);
    occupancy().mark(values, 0.5f, false, begin, end, occupied);
    occupancy().sum_seen(values, begin, end, &sums[2 * t], &sums[2 * t + 1]);
  });
  for (int64_t i = 0; i < n; ++i) {
    expect(ids[i] >= 0 && ids[i] < 512, "occupancy: a cell outside the grid");
    expect(near[i] >= 0 && near[i] < 512, "occupancy: a neighbour outside the grid");
  }
  expect_finite(points, "points of cells");

  // A silhouette of 20 x 10 pixels, one of them filled: its summed-area table.
  const int64_t width = 20, height = 10;
  Buffer<int32_t> filled((width + 1) * (height + 1));
  for (int64_t y = 6; y <= height; ++y)
    for (int64_t x = 13; x <= width; ++x) filled[y * (width + 1) + x] = 1;
  const CarveView view = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {0.1f, 0, -4}, {25, 25}, {10, 5}, width, height, filled};
  const float half[3] = {0.125f, 0.125f, 0.125f}, corner[3] = {-1, -1, -1};
  parallel_for(8, 1, [&](int64_t begin, int64_t end, int) { carve().carve(view, corner, half, 8, begin, end, kept); });

  double sizes = 0, expected = 0, slope = 0;
  Floats kept_weights(n);
  Buffer<int64_t> indices(n);
  roulette().expect(values, n, {0.5f, 1.f}, 0.1f, &sizes, &expected, &slope);
  expect(roulette().draw(values, n, {0.5f, 1.f}, 0.1f, 12345, indices, kept_weights) <= n, "roulette kept too many");

  Floats unit(3 * n), sigma(n), table = randoms(5 * 3, 0, 1), taken(n * 3);
  Buffer<uint8_t> inside(n);
  const float low[3] = {-0.5f, -0.5f, -0.5f}, inverse[3] = {1, 1, 1}, center[3] = {0, 0, 0};
  Buffer<int64_t> rows(n);
  for (int64_t i = 0; i < n; ++i) rows[i] = i % 5;
  const RowArray array = {reinterpret_cast<uint32_t*>(static_cast<float*>(table)),
                          reinterpret_cast<uint32_t*>(static_cast<float*>(taken)), 3, 3, 1};
  parallel_for(n, 16, [&](int64_t begin, int64_t end, int) {
    domain().box(points, low, inverse, begin, end, unit, inside);
    domain().contraction(points, center, 1.f, begin, end, unit);
    domain().exp_density(values, 1, inside, 2.f, 11.f, begin, end, sigma);
    polyfield::rows().take(rows, begin, end, &array, 1);
  });
  expect_finite(unit, "domain");
  expect_finite(sigma, "density");

  const int64_t steps = 3;
  const float first[] = {10.f, 5.f, 1.f}, second[] = {10.f, 5.f, 1.f};
  for (bool sparse : {false, true}) {
    Floats value = randoms(n, -1, 1), gradient = randoms(n, -1, 1), m(n), v(n);
    Buffer<uint16_t> count(n);
    Buffer<uint8_t> touched((n + 15) / 16, 1);
    if (n > 5) gradient[5] = 0;
    const AdamTensor tensor = {value, gradient, m, v, count, sparse ? static_cast<uint8_t*>(touched) : nullptr, n};
    const AdamSettings settings = {0.01f, 0.9f, 0.99f, 1e-15f, 1e-4f, 1.f, first, second, steps};
    parallel_for((n + 15) / 16, 1, [&](int64_t begin, int64_t end, int) { adam().step(tensor, settings, begin, end); });
    expect_finite(value, "Adam");
  }
}
