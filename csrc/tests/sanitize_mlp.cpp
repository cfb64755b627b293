// Drives networks: see sanitize.cpp.
#include "kernels/mlp.h"
#include "parallel.h"
#include "tests/watched.h"

using namespace polyfield;

POLYFIELD_DRIVER(mlp, int64_t n) {
  const MlpShape shapes[] = {{32, 16, 64, 1, Activation::relu, 1.f, false, 0},
                             {7, 3, 19, 3, Activation::sine, 3.f, true, 0b1010},
                             {37, 1, 48, 2, Activation::softplus, 10.f, true, 0b10},
                             {1, 40, 1, 1, Activation::none, 1.f, false, 0},
                             {20, 3, 64, 1, Activation::relu, 1.f, true, 0, Activation::sigmoid},
                             {9, 2, 33, 1, Activation::gaussian, 1.f, true, 0},
                             {6, 3, 21, 2, Activation::relu, 1.f, true, 0b10, Activation::none, 10., 100.}};
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
