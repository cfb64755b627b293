// Fused multi-layer perceptron in fp32: a block takes 64 points through all layers; activations stay in shared memory.
//
// 8 warps share the rows (output features) of a layer, each lane has two of the points, and each thread sums Rows x 2
// products in registers. Weights pass through a tile of shared memory that the whole block fills: one 16-byte read
// of it serves 8 multiply-adds.
#include <stdexcept>
#include <string>
#include <type_traits>

#include "cuda/kernels.h"

namespace polyfield {
namespace cuda {
namespace {

constexpr int tile_points = 64, mlp_threads = 256, warps = mlp_threads / 32;
constexpr int depth = 16;  // columns of the weights in the tile

struct MlpJob {
  MlpShape shape;
  MlpInput input;
  const float* weights;
  PointMatrix<float> y;
  int64_t points;
};

__device__ __forceinline__ float activate(Activation kind, float scale, float z) {
  switch (kind) {
    case Activation::relu: return fmaxf(z, 0.f);
    case Activation::sine: return sinf(scale * z);
    case Activation::softplus: return (fmaxf(scale * z, 0.f) + log1pf(expf(-fabsf(scale * z)))) / scale;
    case Activation::gaussian: return expf(-0.5f * (z < 0.f ? 0.f : scale * z));
    case Activation::sigmoid: return 1.f / (1.f + expf(-z));
    default: return z;
  }
}

// The tile's inputs, feature-major: shared[feature * tile_points + point]; points beyond the end are zero.
__device__ __forceinline__ void load_input(const MlpInput& input, int64_t inputs, int64_t first, int64_t points, float* to) {
  for (int64_t i = threadIdx.x; i < inputs * tile_points; i += mlp_threads) {
    const int64_t feature = i / tile_points, n = first + i % tile_points;
    float value = 0.f;
    if (n < points)
      value = feature < input.x_columns
                  ? input.x.data[n * input.x.point + feature * input.x.feature]
                  : input.condition[input.rows[n] * input.condition_columns + (feature - input.x_columns)];
    to[i] = value;
  }
}

// sum[r][p] = bias + weights [rows, columns] times (hidden, then input) for this thread's rows and points.
template <int Rows>
__device__ __forceinline__ void layer_sums(const float* weights, const float* bias, int rows, int columns, int first_row,
                                           const float* hidden, int hidden_columns, const float* input, float* tile,
                                           float (&sum)[Rows][2]) {
  const int lane = threadIdx.x % 32, mine = threadIdx.x / 32 * Rows;
  for (int r = 0; r < Rows; ++r) {
    const int row = first_row + mine + r;
    sum[r][0] = sum[r][1] = bias != nullptr && row < rows ? bias[row] : 0.f;
  }
  for (int k0 = 0; k0 < columns; k0 += depth) {
    __syncthreads();  // the tile is no longer read, the activations are written
    for (int i = threadIdx.x; i < warps * Rows * depth; i += mlp_threads) {
      const int row = first_row + i / depth, k = k0 + i % depth;
      tile[i] = row < rows && k < columns ? weights[static_cast<int64_t>(row) * columns + k] : 0.f;
    }
    __syncthreads();
    for (int k = 0; k < depth; k += 4) {
      float a[4][2];
      for (int j = 0; j < 4; ++j) {
        const int column = k0 + k + j;
        const float* from = column < hidden_columns ? hidden + column * tile_points
                                                    : input + (column - hidden_columns) * tile_points;
        a[j][0] = column < columns ? from[lane] : 0.f;
        a[j][1] = column < columns ? from[lane + 32] : 0.f;
      }
#pragma unroll
      for (int r = 0; r < Rows; ++r) {
        const float* w = tile + (mine + r) * depth + k;  // four in one read: depth is a multiple of 4
        for (int j = 0; j < 4; ++j) {
          sum[r][0] += w[j] * a[j][0];
          sum[r][1] += w[j] * a[j][1];
        }
      }
    }
  }
}

template <int Rows>
__global__ void __launch_bounds__(mlp_threads) mlp_values(MlpJob job) {
  POLYFIELD_SHARED(float, shared);
  const MlpShape& shape = job.shape;
  const int inputs = static_cast<int>(shape.inputs), width = static_cast<int>(shape.width);
  float* tile = shared;
  float* hidden = tile + warps * Rows * depth;
  float* input = hidden + width * tile_points;
  const int lane = threadIdx.x % 32, mine = threadIdx.x / 32 * Rows;
  const int64_t first = blockIdx.x * static_cast<int64_t>(tile_points);
  load_input(job.input, inputs, first, job.points, input);

  const float* weights = job.weights;
  const float* bias = nullptr;
  if (shape.bias) {  // behind all matrices
    bias = weights + static_cast<int64_t>(width) * inputs + static_cast<int64_t>(shape.outputs) * width;
    for (int l = 1; l <= shape.hidden; ++l) {
      const int64_t rows = l < shape.hidden ? shape.width : shape.outputs;
      if (l < shape.hidden) bias += rows * width;
      if (shape.skips >> l & 1) bias += rows * inputs;
    }
  }
  const double growth = shape.highest_frequency / shape.lowest_frequency;  // used where composed
  for (int l = 0; l < shape.hidden; ++l) {
    const int hidden_columns = l == 0 ? 0 : width;
    const int columns = l == 0 ? inputs : width + (shape.skips >> l & 1 ? inputs : 0);
    float sum[Rows][2];
    layer_sums<Rows>(weights, bias, width, columns, 0, hidden, hidden_columns, input, tile, sum);
    __syncthreads();  // all have read the layer below before it is overwritten
    for (int r = 0; r < Rows; ++r) {
      if (mine + r >= width) continue;
      float* to = hidden + (mine + r) * tile_points + lane;
      if (l == 0 && shape.composed()) {
        const double place = width > 1 ? (mine + r) / (width - 1.0) : 0.0;
        const float m = static_cast<float>(shape.lowest_frequency * pow(growth, place));
        to[0] = sum[r][0] + sinf(m * sum[r][0]);
        to[32] = sum[r][1] + sinf(m * sum[r][1]);
        continue;
      }
      to[0] = activate(shape.activation, shape.scale, sum[r][0]);
      to[32] = activate(shape.activation, shape.scale, sum[r][1]);
    }
    weights += static_cast<int64_t>(width) * columns;
    if (bias != nullptr) bias += width;
  }
  const int outputs = static_cast<int>(shape.outputs);
  const int columns = width + (shape.skips >> shape.hidden & 1 ? inputs : 0);
  for (int row = 0; row < outputs; row += warps * Rows) {
    float sum[Rows][2];
    layer_sums<Rows>(weights, bias, outputs, columns, row, hidden, width, input, tile, sum);
    for (int r = 0; r < Rows; ++r) {
      const int64_t feature = row + mine + r;
      for (int p = 0; p < 2; ++p) {
        const int64_t n = first + lane + 32 * p;
        if (feature < outputs && n < job.points)
          job.y.data[n * job.y.point + feature * job.y.feature] = activate(shape.output_activation, 1.f, sum[r][p]);
      }
    }
  }
}

}  // namespace

void mlp_forward(const MlpShape& shape, const MlpInput& input, const float* weights, PointMatrix<float> y, int64_t points,
                 Stream stream) {
  if (points == 0) return;
  const MlpJob job = {shape, input, weights, y, points};
  const auto start = [&](auto rows) {
    constexpr int Rows = decltype(rows)::value;
    const size_t bytes = sizeof(float) * (warps * Rows * depth + (shape.width + shape.inputs) * tile_points);
    const auto kernel = mlp_values<Rows>;
    if (bytes > 48 * 1024) allow_shared(kernel, bytes);
    POLYFIELD_LAUNCH(kernel, blocks_for(points, tile_points), mlp_threads, bytes, stream, job);
  };
  if (shape.width <= 4 * warps) return start(std::integral_constant<int, 4>());
  if (shape.width <= 8 * warps) return start(std::integral_constant<int, 8>());
  if (shape.width <= 16 * warps) return start(std::integral_constant<int, 16>());
  if (shape.width <= 32 * warps) return start(std::integral_constant<int, 32>());
  throw std::invalid_argument("The CUDA network takes widths up to 256, but the width is " + std::to_string(shape.width) + ".");
}

}  // namespace cuda
}  // namespace polyfield
