// Drives radial bases and their neighbours: see sanitize.cpp.
#include "kernels/rbf.h"
#include "parallel.h"
#include "rbf_index.h"
#include "tests/watched.h"

using namespace polyfield;

namespace {

// Half of the centres are crowded together, some are at one place.
Floats some_centres(int64_t count, int dim) {
  Floats centres = randoms(count * dim, -0.1f, 1.1f);
  for (int64_t i = 0; i < count / 2 * dim; ++i) centres[i] = 0.4f + 0.01f * centres[i];
  for (int64_t i = 0; i < count / 8 * dim; ++i) centres[i] = 0.7f;
  return centres;
}

// Definite matrices: small beside the diagonal. `entries` 1: tents.
Floats some_shapes(int64_t count, int dim, int64_t entries) {
  Floats shapes = randoms(count * entries, 0.f, 0.1f);
  for (int64_t i = 0; i < count; ++i) {
    if (entries == 1) shapes[i] += 1.f;
    for (int64_t d = 0, at = 0; entries > 1 && d < dim; at += dim - d++) shapes[i * entries + at] += 1.f;
  }
  return shapes;
}

struct Aligned {  // 64 bytes at least, exactly so long
  explicit Aligned(int64_t size) : memory(static_cast<char*>(std::aligned_alloc(64, (size + 63) / 64 * 64)), &std::free) {}
  std::unique_ptr<char, void (*)(void*)> memory;
};

void drive_sums(RbfJob job, int64_t n) {
  Floats out(n * job.channels), g = randoms(n * job.channels, -1, 1), to(n * job.dim), values(job.rows * job.channels);
  Buffer<uint8_t> touched((job.rows * job.channels + 15) / 16);
  parallel_for(n, 16, [&](int64_t begin, int64_t end, int) {
    rbf().forward(job, out, begin, end);
    rbf().points(job, g, to, begin, end);
  });
  for (int64_t begin = 0; begin < n; begin += rbf_piece) {
    const int64_t end = std::min(n, begin + rbf_piece), pairs = (end - begin) * job.neighbours;
    Floats weights(pairs);
    Buffer<uint16_t> order(pairs);
    Buffer<int32_t> starts(rbf_slices + 1);
    rbf().sort(job, begin, end, weights, order, starts);
    parallel_tasks(rbf_slices, [&](int64_t slice, int) {
      rbf().scatter(job, begin, static_cast<int>(slice), weights, order, starts, g, values, touched);
    });
  }
  expect_finite(values, "gradient of radial bases");
  expect_finite(to, "gradient of radial bases to points");
}

}  // namespace

POLYFIELD_DRIVER(rbf, int64_t n) {
  for (int dim : {1, 2, 3})
    for (int64_t count : {17, 400})
      for (int neighbours : {1, 5, 16}) {
        Floats centres = some_centres(count, dim), x = randoms(n * dim, -0.2f, 1.2f);
        if (n > 2) x[dim] = std::nanf("");
        const float extent[3] = {1.f, 0.3f, 2.f};
        RbfIndexBuilder builder(centres, count, dim, extent, neighbours);
        const Aligned index(builder.size());
        builder.write(index.memory.get());
        Buffer<int32_t> ids(n * neighbours);
        parallel_for(n, 16, [&](int64_t begin, int64_t end, int) {
          rbf_neighbours().nearest(*reinterpret_cast<const RbfIndex*>(index.memory.get()), x, ids, begin, end);
        });
        bool known = true;
        for (int64_t i = 0; i < ids.size; ++i) known = known && ids[i] >= -1 && ids[i] < count;
        expect(known, "neighbours that are not there");
        Floats frequencies = randoms(37, 0, 100);
        for (RbfKernel kernel : {RbfKernel::inverse_quadratic, RbfKernel::inverse_multiquadric, RbfKernel::gaussian,
                                 RbfKernel::tent}) {
          Floats shapes = some_shapes(count, dim, kernel == RbfKernel::tent ? 1 : dim * (dim + 1) / 2);
          for (int channels : {1, 16, 37}) {
            Floats features = randoms(count * channels, -1, 1);
            const bool sines = channels == 37;
            drive_sums({x, ids, centres, shapes, extent, features, sines ? static_cast<float*>(frequencies) : nullptr,
                        count, dim, channels, neighbours, kernel, sines},
                       n);
          }
        }
      }
}
