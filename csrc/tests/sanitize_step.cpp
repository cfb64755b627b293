// Drives a whole step of training: see sanitize.cpp.
#include "kernels/occupancy.h"
#include "parallel.h"
#include "photometric.h"
#include "replay.h"
#include "tests/watched.h"
#include "tracer.h"

using namespace polyfield;

// A whole step of training: trace, compare, replay; with a hash grid in a box and with frequencies in all of space.
POLYFIELD_DRIVER(step, int64_t rays) {
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

POLYFIELD_DRIVER(long_step, int64_t n) {
  if (n == 131) drive_step(9 * n);
}
