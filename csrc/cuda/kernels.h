// The CUDA side of the kernel families. All addresses are the device's, in float32 and row-major unless said; structs are those of
// the CPU kernels. Work is queued on the stream; errors of a launch are thrown as std::runtime_error.
//
// The gradient of a table is summed with atomics: its last bits vary from run to run.
#pragma once

#include <cstdint>

#include "cuda/launch.h"
#include "kernels/adam.h"
#include "kernels/composite.h"
#include "kernels/frequency.h"
#include "kernels/hash_grid.h"
#include "kernels/mlp.h"
#include "kernels/ray_march.h"

namespace polyfield {
namespace cuda {

// As HashGridKernels::forward and ::scatter, and HashGridGradientKernels::points; job.along must be null.
void hash_grid_forward(const HashGridJob& job, const float* table, float* out, Stream stream);
void hash_grid_scatter(const HashGridJob& job, HashGridUpstream upstream, float* values, uint8_t* touched, Stream stream);
void hash_grid_points(const HashGridJob& job, const float* table, HashGridUpstream upstream, float* out, Stream stream);

// As MlpKernels::forward, in fp32; widths up to 256, else std::invalid_argument.
void mlp_forward(const MlpShape& shape, const MlpInput& input, const float* weights, PointMatrix<float> y, int64_t points,
                 Stream stream);

// Degrees 1 .. 8.
void spherical_harmonics_forward(const float* directions, float* out, int64_t count, int degree, Stream stream);
void spherical_harmonics_backward(const float* directions, const float* gradient, float* out, int64_t count, int degree,
                                  Stream stream);

void frequency_forward(const float* x, float* out, int64_t count, FrequencyShape shape, Stream stream);
void frequency_backward(const float* x, const float* gradient, float* out, int64_t count, FrequencyShape shape,
                        Stream stream);

void composite_forward(const CompositeInputs& in, const CompositeOutputs& out, int64_t rays, Stream stream);
void composite_backward(const CompositeInputs& in, const float* weights, const float* left,
                        const CompositeCotangents& cotangents, const CompositeGradients& out, int64_t rays, Stream stream);

// In two passes: counts [R], then, their running sum being offsets [R + 1], the samples.
void ray_march_count(const MarchRays& rays, const MarchGrid& grid, const MarchStep& step, int64_t max_samples,
                     int64_t count, int64_t* counts, Stream stream);
void ray_march_fill(const MarchRays& rays, const MarchGrid& grid, const MarchStep& step, int64_t count,
                    const int64_t* offsets, const MarchSamples& out, Stream stream);

// *unusable becomes 1 when a gradient or its square is not finite; that entry stays as it is.
void adam_step(const AdamTensor& tensor, const AdamSettings& settings, int* unusable, Stream stream);

}  // namespace cuda
}  // namespace polyfield
