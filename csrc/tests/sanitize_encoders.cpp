// Drives encoders: see sanitize.cpp.
#include "kernels/factor_grid.h"
#include "kernels/frequency.h"
#include "kernels/hash_grid.h"
#include "kernels/hash_grid_gradient.h"
#include "kernels/spherical_harmonics.h"
#include "parallel.h"
#include "tests/watched.h"

using namespace polyfield;

POLYFIELD_DRIVER(encoders, int64_t n) {
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

POLYFIELD_DRIVER(hash_grid, int64_t n) {
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

POLYFIELD_DRIVER(factor_grid, int64_t n) {
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
