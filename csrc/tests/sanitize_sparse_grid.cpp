// Drives sparse grids: see sanitize.cpp.
#include "kernels/sparse_grid.h"
#include "parallel.h"
#include "tests/watched.h"

using namespace polyfield;

POLYFIELD_DRIVER(sparse_grid, int64_t n) {
  const int32_t side = 5;
  Buffer<int32_t> index(side * side * side, -1), vertices(60);
  int32_t rows = 0;
  for (int32_t v = 0; v < side * side * side && rows < 60; ++v)
    if (next_random() < 0.6f) {
      vertices[rows] = v;
      index[v] = rows++;
    }
  index[side * side * side - 1] = 1000000;  // no row of this table: not kept
  for (int channels : {1, 5, 16, 28, 37}) {
    Floats x = randoms(3 * n, -0.1f, 1.1f), table = randoms(rows * channels, -1, 1), g = randoms(channels * n, -1, 1);
    if (n > 2) x[4] = std::nanf("");
    Floats out(channels * n), to(3 * n), values(rows * channels), weights = randoms(channels, 0, 1);
    Buffer<uint8_t> touched((rows * channels + 15) / 16);
    const SparseGridJob job = {side, rows, channels, index, table};
    const SparseGridVariation penalty = {vertices, rows, weights, 0.5f, 1e-9f};
    parallel_for(n, 16, [&](int64_t begin, int64_t end, int) {
      sparse_grid().forward(job, x, out, begin, end);
      sparse_grid().points(job, x, g, to, begin, end);
    });
    parallel_tasks(side, [&](int64_t layer, int) {
      sparse_grid().scatter(job, x, g, n, static_cast<int32_t>(layer), static_cast<int32_t>(layer) + 1, values, touched);
    });
    parallel_tasks(3, [&](int64_t part, int) {
      uint8_t* marks = part == 0 ? nullptr : static_cast<uint8_t*>(touched);
      sparse_grid().variation(job, penalty, rows * part / 3, rows * (part + 1) / 3, values, marks);
    });
    expect_finite(values, "gradient of a sparse grid");
    expect_finite(to, "gradient of a sparse grid to points");
  }
}
