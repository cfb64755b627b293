// Drives every kernel family on small and odd sizes with several threads, for the sanitizers to watch: see sanitize.sh.
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <vector>

#include "kernels/adam.h"
#include "kernels/carve.h"
#include "kernels/ceilings.h"
#include "kernels/composite.h"
#include "kernels/domain.h"
#include "kernels/factor_grid.h"
#include "kernels/frequency.h"
#include "kernels/hash_grid.h"
#include "kernels/hash_grid_gradient.h"
#include "kernels/mlp.h"
#include "kernels/occupancy.h"
#include "kernels/pictures.h"
#include "kernels/ray_march.h"
#include "kernels/roulette.h"
#include "kernels/rows.h"
#include "kernels/spherical_harmonics.h"
#include "parallel.h"
#include "photometric.h"
#include "replay.h"
#include "tests/watched.h"
#include "tracer.h"

using namespace polyfield;

namespace {

void drive_parallel() {
  for (int threads : {1, 2, 3, 5}) {
    set_thread_count(threads);
    for (int64_t n : {0, 1, 2, 7, 64, 1000}) {
      for (int64_t grain : {1, 3, 64}) {
        Buffer<int> seen(n);
        parallel_for(n, grain, [&](int64_t begin, int64_t end, int thread) {
          expect(begin < end && (begin % grain == 0) && thread < threads, "parallel_for: a range is off");
          for (int64_t i = begin; i < end; ++i) ++seen[i];
        });
        for (int64_t i = 0; i < n; ++i) expect(seen[i] == 1, "parallel_for: an index not visited once");
      }
      Buffer<int> seen(n);
      parallel_tasks(n, [&](int64_t task, int) { ++seen[task]; });
      for (int64_t i = 0; i < n; ++i) expect(seen[i] == 1, "parallel_tasks: a task not done once");
    }
    bool caught = false;
    try {
      parallel_tasks(64, [&](int64_t task, int) {
        if (task % 7 == 3) throw std::runtime_error("on purpose");
      });
    } catch (const std::runtime_error&) {
      caught = true;
    }
    expect(caught, "parallel_tasks: an exception got lost");
    parallel_for(4, 1, [&](int64_t, int64_t, int) { expect(threads == 1 || thread_count() == 1, "a region within a region"); });
  }
}

void drive_encoders(int64_t n) {
  Floats d = randoms(3 * n, -1, 1);
  for (int degree : {1, 3, 4, 8, 9, 12}) {
    const int64_t width = degree * degree;
    // Any numbers do for the recurrence: only where they are read matters here.
    Floats recurrence = randoms(2 * width, 0.5f, 0.9f), out(n * width), g = randoms(n * width, -1, 1), to(3 * n);
    Scratch scratch(16 * width, thread_count());
    parallel_for(n, 16, [&](int64_t begin, int64_t end, int t) {
      const ShWork work = {recurrence, scratch.of(t)};
      spherical_harmonics().forward(d, out, begin, end, degree, work);
      spherical_harmonics().backward(d, g, to, begin, end, degree, work);
    });
    expect_finite(out, "spherical harmonics");
    expect_finite(to, "gradient of spherical harmonics");
  }
  for (const FrequencyShape& shape : {FrequencyShape{1, 1, false}, FrequencyShape{3, 10, true}, FrequencyShape{2, 64, true}}) {
    Floats x = randoms(n * shape.dim, -1, 1), out(n * shape.width()), g = randoms(n * shape.width(), -1, 1),
           to(n * shape.dim);
    Scratch scratch(16 * (shape.width() + shape.dim), thread_count());
    parallel_for(n, 16, [&](int64_t begin, int64_t end, int t) {
      frequency().forward(x, out, begin, end, shape, scratch.of(t));
      frequency().backward(x, g, to, begin, end, shape, scratch.of(t));
    });
    expect_finite(out, "frequency");
  }
}

void drive_hash_grid(int64_t n) {
  for (int dim : {2, 3, 4}) {
    for (int features : {1, 2, 4, 8}) {
      for (bool smooth : {false, true}) {
        const uint32_t row = 5, dense = dim == 2 ? 32 : dim == 3 ? 128 : 632;
        const HashGridLevel levels[3] = {{0, dense, row, dense_rule, 3.f, 0.5f, 0},
                                         {dense, 64, 100, hashed_rule, 50.f, 0.5f, 0},
                                         {dense + 64, 24, row, modulo_rule, 3.f, 0.f, 0}};
        const int64_t entries = dense + 64 + 24;
        Floats x = randoms(n * dim, -0.1f, 1.1f), along = randoms(n * dim, -1, 1);
        if (n > 2) x[dim] = std::nanf("");
        Floats table = randoms(entries * features, -1, 1), out(3 * features * n), g = randoms(3 * features * n, -1, 1);
        Floats values(entries * features), to(n * dim);
        Buffer<uint8_t> touched((entries * features + 15) / 16);
        for (const float* direction : {static_cast<const float*>(nullptr), static_cast<const float*>(along)}) {
          const HashGridJob job = {levels, 3, dim, features, smooth, n, x, direction};
          hash_grid().forward(job, table, out);
          hash_grid().scatter(job, {g, 1, 3 * features}, values, touched);
          hash_grid().scatter(job, {g, n, 1}, values, nullptr);
          hash_grid_gradient().points(job, table, {g, n, 1}, to);
        }
        expect_finite(values, "gradient of a hash grid");
        expect_finite(to, "gradient of a hash grid to points");
      }
    }
  }
}

void drive_factor_grid(int64_t n) {
  // A plane times a line, a box, three lines.
  const FactorGridFactor factors[6] = {{0, 0, 2, {2, 0, 0}, {4, 5, 0}}, {20, 0, 1, {1, 0, 0}, {3, 0, 0}},
                                       {23, 1, 3, {0, 1, 2}, {2, 3, 4}}, {47, 2, 1, {0, 0, 0}, {2, 0, 0}},
                                       {49, 2, 1, {1, 0, 0}, {7, 0, 0}}, {56, 2, 1, {2, 0, 0}, {4, 0, 0}}};
  const int64_t rows = 60;
  for (int channels : {1, 5, 16, 37}) {
    Floats x = randoms(3 * n, -0.1f, 1.1f), table = randoms(rows * channels, -1, 1), g = randoms(3 * channels * n, -1, 1);
    if (n > 2) x[3] = std::nanf("");
    Floats out(3 * channels * n), to(3 * n), values(rows * channels);
    Buffer<uint8_t> touched((rows * channels + 15) / 16);
    const FactorGridJob job = {factors, 6, 3, channels, 3, x, table};
    parallel_for(n, 16, [&](int64_t begin, int64_t end, int) {
      factor_grid().forward(job, out, begin, end);
      factor_grid().points(job, g, to, begin, end);
    });
    parallel_tasks(6, [&](int64_t factor, int) {
      factor_grid().scatter(job, static_cast<int>(factor), g, n, values, touched);
    });
    expect_finite(values, "gradient of a factor grid");
    expect_finite(to, "gradient of a factor grid to points");
  }
}

void drive_mlp(int64_t n) {
  const MlpShape shapes[] = {{32, 16, 64, 1, Activation::relu, 1.f, false, 0},
                             {7, 3, 19, 3, Activation::sine, 3.f, true, 0b1010},
                             {37, 1, 48, 2, Activation::softplus, 10.f, true, 0b10},
                             {1, 40, 1, 1, Activation::none, 1.f, false, 0},
                             {20, 3, 64, 1, Activation::relu, 1.f, true, 0, Activation::sigmoid}};
  for (const MlpShape& shape : shapes) {
    int64_t count = 0;
    for (int64_t l = 0; l <= shape.hidden; ++l) {
      const int64_t in = (l == 0 ? shape.inputs : shape.width) + (shape.skips >> l & 1 ? shape.inputs : 0);
      const int64_t out = l == shape.hidden ? shape.outputs : shape.width;
      count += out * (in + (shape.bias ? 1 : 0));
    }
    Floats weights = randoms(count, -0.3f, 0.3f), for_weights(count);
    for (int64_t extra : {int64_t{0}, shape.inputs / 2}) {
      const int64_t columns = shape.inputs - extra, rays = 3;
      Floats x = randoms(n * columns, -1, 1), y(n * shape.outputs), dy = randoms(n * shape.outputs, -1, 1),
             dx(n * columns), condition = randoms(rays * extra, -1, 1), for_condition(rays * extra);
      Buffer<int32_t> rows(n);
      for (int64_t i = 0; i < n; ++i) rows[i] = static_cast<int32_t>(i * rays / (n > 0 ? n : 1));
      for (bool transposed : {false, true}) {
        const auto place = [&](float* data, int64_t width) {
          return transposed ? PointMatrix<float>{data, 1, n} : PointMatrix<float>{data, width, 1};
        };
        const auto const_place = [&](float* data, int64_t width) {
          return transposed ? PointMatrix<const float>{data, 1, n} : PointMatrix<const float>{data, width, 1};
        };
        MlpInput input = {const_place(x, columns), columns, nullptr, nullptr, 0, 0};
        if (extra > 0) input = {const_place(x, columns), columns, condition, rows, rays, extra};
        for (bool bf16 : {false, true}) {
          for (int64_t kept : {int64_t{0}, n / 2, n}) {
            Buffer<char> room(mlp().saved_bytes(shape, bf16, kept));
            const MlpSaved saved = {room, kept};
            mlp().forward(shape, input, weights, bf16, place(y, shape.outputs), n, saved);
            mlp().backward(shape, input, weights, bf16, {const_place(dy, shape.outputs), const_place(y, shape.outputs)},
                           {place(dx, columns), for_weights, extra > 0 ? static_cast<float*>(for_condition) : nullptr}, n,
                           saved);
            expect_finite(y, "network");
            expect_finite(dx, "gradient of a network to its input");
            expect_finite(for_weights, "gradient of a network");
          }
        }
      }
    }
  }
}

void drive_composite(int64_t rays) {
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

void drive_march(int64_t rays) {
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

void drive_pictures(int64_t n) {
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

void drive_upkeep(int64_t n) {
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

// A whole step of training: trace, compare, replay; with a hash grid in a box and with frequencies in all of space.
void drive_step(int64_t rays) {
  const int resolution = 8, cells = resolution * resolution * resolution;
  Buffer<uint8_t> obstacles(cells, 1), distance(cells);
  for (int i = 0; i < cells; ++i) obstacles[i] = next_random() < 0.5f;
  occupancy().distances(obstacles, resolution, distance);
  const MarchGrid grid = {{0, 0, 0}, {1, 1, 1}, 1, resolution, distance};
  const float inf = INFINITY;
  const MarchStep step = {0.05f, 0, 0.05f, inf, inf, inf, inf};
  Floats depths = randoms(cells, 0, 1);
  const int dim = 3, features = 2, row = 8, entries = 64;
  const HashGridLevel levels[] = {{0, entries, row, hashed_rule, 7.f, 0.5f, 0}, {entries, entries, row, hashed_rule, 11.f, 0.5f, 0}};
  Floats table = randoms(2 * entries * features, -1, 1), for_table(2 * entries * features);
  Buffer<uint8_t> touched(2 * entries * features / 16);
  const HashGridPoints hashed({levels, 1, dim, features, false, 0, nullptr, nullptr}, table, 2 * features, for_table, touched);
  const FrequencyPoints waves(2, true);
  Floats origins = randoms(3 * rays, -2, 2), directions(3 * rays), jitter = randoms(rays, 0, 0.99f);
  for (int64_t i = 0; i < 3 * rays; ++i) directions[i] = -origins[i] / 3.f;
  if (rays > 2) origins[3] = std::nanf("");
  for (bool ball : {false, true}) {
    const PointEncoder& encoder = ball ? static_cast<const PointEncoder&>(waves) : hashed;
    const int64_t columns = ball ? 0 : 4, out = 5;
    const MlpShape dense = {encoder.width(), out, 16, 1, Activation::relu, 1.f, true, 0};
    const MlpShape shade = {out + columns, 3, 16, 1, Activation::relu, 1.f, false, 0, Activation::sigmoid};
    const int64_t dense_size = dense.inputs * 16 + 16 * out + 16 + out, shade_size = shade.inputs * 16 + 16 * 3;
    Floats dense_weights = randoms(dense_size, -1, 1), shade_weights = randoms(shade_size, -1, 1);
    Floats conditions = randoms(rays * columns, -1, 1);
    const PointConditions given = {columns > 0 ? static_cast<float*>(conditions) : nullptr, rays, columns};
    const PointField field = {{ball, {ball ? 0.f : -1.f, ball ? 0.f : -1.f, ball ? 0.f : -1.f}, {0.5f, 0.5f, 0.5f}},
                              &encoder,
                              {dense, dense_weights, true},
                              {shade, shade_weights, false},
                              ball ? DensityActivation::softplus : DensityActivation::exp,
                              4.f,
                              15.f};
    Tracer tracer;
    Replay player;
    Photometric judge;
    Buffer<int64_t> offsets(rays + 1);
    tracer.trace({origins, directions, jitter, rays, 0.f, 1e9f, given}, {{grid, step}, depths, 1e-2f, true}, field, offsets);
    const int64_t n = offsets[rays];
    Floats positions(3 * n), t0(n), t1(n), sigma(n), color(3 * n), encoded(encoder.width() * n);
    Buffer<int32_t> ids(n);
    tracer.collect(offsets, encoder.width(), {positions, t0, t1, sigma, color, encoded, ids});
    Floats wanted = randoms(3 * rays, 0, 1), alpha = randoms(rays, 0, 1), weights = randoms(rays, 0, 1),
           background = randoms(3 * rays, 0, 1), to_sigma(n), to_color(3 * n), importance(n);
    const PhotometricSums sums =
        judge.run({{sigma, color, t0, t1, offsets, background}, wanted, alpha, weights, rays, 0.1f}, {to_sigma, to_color, importance});
    expect(std::isfinite(sums.loss) && std::isfinite(sums.square), "photometric loss");
    Buffer<int64_t> kept((n + 1) / 2);
    Floats factors = randoms((n + 1) / 2, 1, 4), for_dense(dense_size), for_shade(shade_size);
    for (int64_t i = 0; i < kept.size; ++i) kept[i] = 2 * i;
    for (bool known : {true, false})
      player.run(field, {positions, ids, known ? static_cast<float*>(encoded) : nullptr, to_sigma, to_color, n}, given, kept,
                 factors, kept.size, for_dense, for_shade);
    expect_finite(for_dense, "replay, density");
    expect_finite(for_shade, "replay, colour");
    expect_finite(for_table, "replay, table");
  }
}

void drive_ceilings() {
  expect(ceilings().multiply_fp32(3) > 0 && ceilings().multiply_bf16(3) > 0, "ceilings did nothing");
  Buffer<uint64_t> table(100, 1);
  Buffer<int32_t> indices(64);
  for (int i = 0; i < 64; ++i) indices[i] = i * 37 % 100;
  expect(ceilings().gather(table, indices, 64) == 64, "a gather read something else");
  Floats from = randoms(100, 0, 1), to(100);
  ceilings().copy(to, from, 100);
}

}  // namespace

int main() {
  drive_parallel();
  drive_ceilings();
  for (int threads : {1, 3}) {
    set_thread_count(threads);
    for (int64_t n : {0, 1, 15, 16, 17, 131}) {
      drive_encoders(n);
      drive_hash_grid(n);
      drive_factor_grid(n);
      drive_mlp(n);
      drive_composite(n);
      drive_march(n);
      drive_pictures(n);
      drive_upkeep(n);
      drive_step(n);
      if (n == 131) drive_step(9 * n);
    }
  }
  std::printf(findings == 0 ? "sanitize: nothing found\n" : "sanitize: %d findings\n", findings);
  return findings == 0 ? 0 : 1;
}
