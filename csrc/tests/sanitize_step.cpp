// Drives a whole step of training: see sanitize.cpp.
#include "evaluation.h"
#include "kernels/occupancy.h"
#include "parallel.h"
#include "photometric.h"
#include "rbf_index.h"
#include "replay.h"
#include "tests/watched.h"
#include "tracer.h"

using namespace polyfield;

namespace {

// A room with obstacles, and rays through it.
struct Stage {
  explicit Stage(int64_t rays)
      : rays(rays), distance(cells), depths(randoms(cells, 0, 1)), origins(randoms(3 * rays, -2, 2)), directions(3 * rays),
        jitter(randoms(rays, 0, 0.99f)), harmonics(randoms(4 * rays, -1, 1)) {
    Buffer<uint8_t> obstacles(cells, 1);
    for (int i = 0; i < cells; ++i) obstacles[i] = next_random() < 0.5f;
    occupancy().distances(obstacles, resolution, distance);
    for (int64_t i = 0; i < 3 * rays; ++i) directions[i] = -origins[i] / 3.f;
    if (rays > 2) origins[3] = std::nanf("");
  }
  static constexpr int resolution = 8, cells = resolution * resolution * resolution;
  int64_t rays;
  Buffer<uint8_t> distance;
  Floats depths, origins, directions, jitter, harmonics;
};

// A whole step of training: trace, ask again, compare, replay.
void drive_field(const PointField& field, Stage& stage, int64_t columns) {
  const int64_t rays = stage.rays;
  const MarchGrid grid = {{0, 0, 0}, {1, 1, 1}, 1, Stage::resolution, stage.distance};
  const float inf = INFINITY;
  const MarchStep step = {0.05f, 0, 0.05f, inf, inf, inf, inf};
  const PointConditions given = {columns > 0 ? static_cast<float*>(stage.harmonics) : nullptr, rays, columns};
  Tracer tracer;
  Replay player;
  Photometric judge;
  Buffer<int64_t> offsets(rays + 1);
  tracer.trace({stage.origins, stage.directions, stage.jitter, rays, 0.f, 1e9f, given},
               {{grid, step}, stage.depths, 1e-2f, true}, field, offsets);
  const int64_t n = offsets[rays], width = field.encoder->width();
  Floats positions(3 * n), t0(n), t1(n), sigma(n), color(3 * n), encoded(width * n);
  Buffer<int32_t> ids(n);
  tracer.collect(offsets, width, {positions, t0, t1, sigma, color, encoded, ids});
  Evaluation again;
  Floats same_sigma(n), same_color(3 * n), features(field.features() * n), same_encoded(width * n);
  for (bool all : {false, true})
    again.run(field, positions, ids, given, n,
              {same_sigma, same_color, all ? static_cast<float*>(features) : nullptr,
               all ? static_cast<float*>(same_encoded) : nullptr});
  bool same = true;
  for (int64_t i = 0; i < n; ++i) same = same && std::fabs(same_sigma[i] - sigma[i]) <= 1e-3f * (1 + std::fabs(sigma[i]));
  expect(same, "evaluation");
  Floats wanted = randoms(3 * rays, 0, 1), alpha = randoms(rays, 0, 1), weights = randoms(rays, 0, 1),
         background = randoms(3 * rays, 0, 1), to_sigma(n), to_color(3 * n), importance(n);
  const PhotometricSums sums =
      judge.run({{sigma, color, t0, t1, offsets, background}, wanted, alpha, weights, rays, 0.1f}, {to_sigma, to_color, importance});
  expect(std::isfinite(sums.loss) && std::isfinite(sums.square), "photometric loss");
  Buffer<int64_t> kept((n + 1) / 2);
  Floats factors = randoms((n + 1) / 2, 1, 4);
  for (int64_t i = 0; i < kept.size; ++i) kept[i] = 2 * i;
  for (bool known : {true, false})
    player.run(field,
               {positions, ids, known ? static_cast<float*>(encoded) : nullptr, to_sigma, to_color,
                known ? nullptr : static_cast<float*>(features), n},
               given, kept, factors, kept.size);
}

// A head that is a network of its own, with what it needs.
struct Network {
  Network(int64_t inputs, int64_t outputs, Activation activation, Activation last, bool bf16)
      : shape{inputs, outputs, 16, 1, activation, 1.f, true, 0, last}, size(16 * (inputs + outputs) + 16 + outputs),
        weights(randoms(size, -1, 1)), gradient(size), head(shape, weights, bf16, gradient) {}
  MlpShape shape;
  int64_t size;
  Floats weights, gradient;
  NetworkHead head;
};

}  // namespace

POLYFIELD_DRIVER(step, int64_t rays) {
  Stage stage(rays);
  const PointDomain box = {false, {-1, -1, -1}, {0.5f, 0.5f, 0.5f}}, ball = {true, {0, 0, 0}, {0.5f, 0.5f, 0.5f}};
  const int features = 2, row = 8, entries = 64;
  const HashGridLevel levels[] = {{0, entries, row, hashed_rule, 7.f, 0.5f, 0}, {entries, entries, row, hashed_rule, 11.f, 0.5f, 0}};
  Floats table = randoms(2 * entries * features, -1, 1), for_table(2 * entries * features);
  Buffer<uint8_t> touched(2 * entries * features / 16);
  const HashGridPoints hashed({levels, 1, 3, features, false, 0, nullptr, nullptr}, table, 2 * features, for_table, touched);
  const FactorGridFactor factors[] = {{0, 0, 2, {0, 1, 0}, {4, 5, 0}}, {20, 0, 1, {2, 0, 0}, {3, 0, 0}}}, whole = {0, 0, 3, {0, 1, 2}, {3, 3, 3}};
  Floats planes = randoms(23 * 5, -1, 1), for_planes(23 * 5), doors = randoms(27, -1, 1), for_doors(27);
  const FactorGridPoints product({factors, 2, 1, 5, 3, nullptr, planes}, for_planes, nullptr);
  const uint8_t shut[1] = {0x02};  // of eight cells
  const SaliencyGate gate({&whole, 1, 1, 1, 3, nullptr, doors}, 3.f, shut, 2, for_doors);
  Network dense(4, 5, Activation::relu, Activation::none, true), shade(9, 3, Activation::relu, Activation::sigmoid, false);
  drive_field({box, &hashed, &gate, &dense.head, nullptr, &shade.head, DensityActivation::exp, false, 4.f, 15.f}, stage, 4);
  const SumHead total(0.5f);
  drive_field({box, &hashed, nullptr, &total, &product, &shade.head, DensityActivation::softplus, false, 4.f, 15.f}, stage, 4);
  const HarmonicsHead flat(1, 3);  // of whose coefficients the condition holds all
  drive_field({box, &hashed, nullptr, &total, nullptr, &flat, DensityActivation::relu, true, 4.f, 15.f}, stage, 4);
  const FrequencyPoints waves(2, true);
  Network wavy(waves.width(), 5, Activation::relu, Activation::none, false), plain(5, 3, Activation::relu, Activation::none, false);
  drive_field({ball, &waves, nullptr, &wavy.head, nullptr, &plain.head, DensityActivation::softplus, true, 4.f, 15.f}, stage, 0);

  // 13 columns, a raw density and 4 terms for each colour: of a sparse grid as they are, or by Gaussian neurons.
  const HarmonicsHead harmonics(4, 3);
  Buffer<int32_t> index(27, -1);
  for (int32_t v = 0; v < 20; ++v) index[v + 3] = v;
  Floats voxels = randoms(20 * 13, -1, 1), for_voxels(20 * 13);
  Buffer<uint8_t> marks((20 * 13 + 15) / 16);
  const SparseGridPoints sparse({3, 20, 13, index, voxels}, for_voxels, marks);
  const IdentityHead same(13);
  drive_field({box, &sparse, nullptr, &same, nullptr, &harmonics, DensityActivation::relu, true, 4.f, 15.f}, stage, 4);
  const int neighbours = 3, count = 40;
  Floats centres = randoms(3 * count, 0, 1), shapes(6 * count, 0.f), held = randoms(7 * count, -1, 1), for_held(7 * count);
  for (int i = 0; i < count; ++i) shapes[6 * i] = shapes[6 * i + 3] = shapes[6 * i + 5] = 9.f;
  Floats extent(3, 1.f);
  RbfIndexBuilder builder(centres, count, 3, extent, neighbours);
  const std::unique_ptr<char, void (*)(void*)> lists(static_cast<char*>(std::aligned_alloc(64, (builder.size() + 63) / 64 * 64)), &std::free);
  builder.write(lists.get());
  const RbfPoints radial(reinterpret_cast<const RbfIndex*>(lists.get()),
                         {nullptr, nullptr, centres, shapes, extent, held, nullptr, count, 3, 7, neighbours,
                          RbfKernel::inverse_quadratic, true},
                         for_held, nullptr);
  const JoinedPoints both(hashed, radial);
  const MlpShape neurons = {2 * both.width(), 13, 16, 1, Activation::gaussian, 1.f, true, 0};
  const int64_t size = 16 * (2 * both.width() + 13) + 16 + 13;
  Floats weights = randoms(size, 0, 1), for_weights(size);
  const SquaresHead squares(neurons, weights, for_weights);
  drive_field({box, &both, nullptr, &squares, nullptr, &harmonics, DensityActivation::exp, true, 4.f, 15.f}, stage, 4);
  for (Floats* gradient : {&for_table, &for_planes, &for_doors, &dense.gradient, &shade.gradient, &wavy.gradient, &plain.gradient,
                           &for_voxels, &for_held, &for_weights})
    expect_finite(*gradient, "replay");
}

POLYFIELD_DRIVER(long_step, int64_t n) {
  if (n == 131) drive_step(9 * n);
}
