#include "kernels/modulate.h"

#include "simd.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

PF_INLINE vf read(const float* p, int64_t left) { return left >= W ? load(p) : load_part(p, static_cast<int>(left)); }
PF_INLINE void write(float* p, vf v, int64_t left) {
  if (left >= W)
    store(p, v);
  else
    store_part(p, v, static_cast<int>(left));
}

// A row of sums, with what normalises it: (z - mean) * inverse.
struct Row {
  const float* z;
  int64_t columns;
  float scale, shift, mean = 0.f, inverse = 1.f;

  __attribute__((always_inline)) Row(const ModulateJob& job, int64_t n)
      : z(job.z + n * job.columns), columns(job.columns), scale(job.scale[n * job.stride]), shift(job.shift[n * job.stride]) {
    if (job.normalise) normalise();
  }

  __attribute__((always_inline)) void normalise() {
    vf total = {}, squares = {};
    for (int64_t k = 0; k < columns; k += W) total += read(z + k, columns - k);
    mean = sum(total) / static_cast<float>(columns);
    int64_t k = 0;
    for (; k + W <= columns; k += W) {
      const vf off = load(z + k) - splat(mean);
      squares = fma(off, off, squares);
    }
    float variance = sum(squares);
    for (; k < columns; ++k) variance += (z[k] - mean) * (z[k] - mean);
    inverse = 1.f / __builtin_sqrtf(variance / static_cast<float>(columns) + modulate_epsilon);
  }

  __attribute__((always_inline)) vf unit(int64_t k) const { return (read(z + k, columns - k) - splat(mean)) * splat(inverse); }
  __attribute__((always_inline)) vf value(vf unit) const { return fma(splat(scale), unit, splat(shift)); }
  // Of what comes in, what the cut at 0 lets through.
  __attribute__((always_inline)) vf passed(const float* upstream, int64_t k, vf unit) const {
    return select(value(unit) > vf{}, read(upstream + k, columns - k), vf{});
  }
};

void forward(const ModulateJob& job, float* y, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; ++n) {
    const Row row(job, n);
    for (int64_t k = 0; k < row.columns; k += W) {
      const vf value = row.value(row.unit(k));
      write(y + n * row.columns + k, select(value < vf{}, vf{}, value), row.columns - k);  // a NaN passes
    }
  }
}

void backward(const ModulateJob& job, const float* upstream, float* to_z, float* to_scale, float* to_shift, int64_t begin,
              int64_t end) {
  const float share = job.normalise ? 1.f / static_cast<float>(job.columns) : 0.f;
  for (int64_t n = begin; n < end; ++n) {
    const Row row(job, n);
    const float* from = upstream + n * row.columns;
    vf along = {}, plain = {};
    for (int64_t k = 0; k < row.columns; k += W) {
      const vf unit = row.unit(k), in = row.passed(from, k, unit);
      along = fma(in, unit, along);
      plain += in;
    }
    to_scale[n] = sum(along);
    to_shift[n] = sum(plain);
    // The mean and the variance follow z: what moves all columns alike, or along the row itself, is taken off.
    const vf common = splat(to_shift[n] * share), turn = splat(to_scale[n] * share), by = splat(row.scale * row.inverse);
    for (int64_t k = 0; k < row.columns; k += W) {
      const vf unit = row.unit(k), in = row.passed(from, k, unit);
      write(to_z + n * row.columns + k, by * (in - common - unit * turn), row.columns - k);
    }
  }
}

}  // namespace

const ModulateKernels modulate = {forward, backward};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
