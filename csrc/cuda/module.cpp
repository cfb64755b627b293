// The Python module of the CUDA kernels: `polyfield._cuda`, or `polyfield._cuda_shim` where they run on the host.
//
// Addresses are those of device memory (of host memory in the shim); `stream` is a cudaStream_t as an integer, 0 the
// default one. Nothing is checked here, and nothing waits for the work to end.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <tuple>

#include "cuda/kernels.h"

namespace polyfield {
namespace cuda {
namespace {

namespace py = pybind11;
using Address = std::uintptr_t;
using unlocked = py::call_guard<py::gil_scoped_release>;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}
Stream as_stream(Address address) { return reinterpret_cast<Stream>(address); }

// (address, stride of points, stride of features)
using Matrix = std::tuple<Address, int64_t, int64_t>;
template <class T>
PointMatrix<T> as_matrix(const Matrix& m) {
  return {at<T>(std::get<0>(m)), std::get<1>(m), std::get<2>(m)};
}

// (levels address, level count, dim, features, smooth, points, x address)
using Grid = std::tuple<Address, int, int, int, bool, int64_t, Address>;
HashGridJob as_job(const Grid& g) {
  return {at<const HashGridLevel>(std::get<0>(g)), std::get<1>(g),      std::get<2>(g), std::get<3>(g), std::get<4>(g),
          std::get<5>(g),                          at<const float>(std::get<6>(g)), nullptr};
}
HashGridUpstream as_upstream(const Matrix& m) { return {at<const float>(std::get<0>(m)), std::get<2>(m), std::get<1>(m)}; }

void bind_encoders(py::module_& m) {
  m.def(
      "hash_grid_forward",
      [](const Grid& grid, Address table, Address out, Address stream) {
        hash_grid_forward(as_job(grid), at<const float>(table), at<float>(out), as_stream(stream));
      },
      unlocked());
  m.def(
      "hash_grid_scatter",
      [](const Grid& grid, const Matrix& upstream, Address values, Address touched, Address stream) {
        hash_grid_scatter(as_job(grid), as_upstream(upstream), at<float>(values), at<uint8_t>(touched), as_stream(stream));
      },
      unlocked());
  m.def(
      "hash_grid_points",
      [](const Grid& grid, Address table, const Matrix& upstream, Address out, Address stream) {
        hash_grid_points(as_job(grid), at<const float>(table), as_upstream(upstream), at<float>(out), as_stream(stream));
      },
      unlocked());
  m.def(
      "spherical_harmonics_forward",
      [](Address directions, Address out, int64_t count, int degree, Address stream) {
        spherical_harmonics_forward(at<const float>(directions), at<float>(out), count, degree, as_stream(stream));
      },
      unlocked());
  m.def(
      "spherical_harmonics_backward",
      [](Address directions, Address gradient, Address out, int64_t count, int degree, Address stream) {
        spherical_harmonics_backward(at<const float>(directions), at<const float>(gradient), at<float>(out), count, degree,
                                     as_stream(stream));
      },
      unlocked());
  m.def(
      "frequency_forward",
      [](Address x, Address out, int64_t count, int dim, int octaves, bool include_input, Address stream) {
        frequency_forward(at<const float>(x), at<float>(out), count, {dim, octaves, include_input}, as_stream(stream));
      },
      unlocked());
  m.def(
      "frequency_backward",
      [](Address x, Address gradient, Address out, int64_t count, int dim, int octaves, bool include_input, Address stream) {
        frequency_backward(at<const float>(x), at<const float>(gradient), at<float>(out), count,
                           {dim, octaves, include_input}, as_stream(stream));
      },
      unlocked());
}

void bind_mlp(py::module_& m) {
  // sizes: inputs, outputs, width, hidden, activation, bias, skips, output activation; activations as `Activation`
  using Sizes = std::tuple<int64_t, int64_t, int64_t, int64_t, int, bool, uint64_t, int>;
  // scale, lowest and highest frequency
  using Scales = std::tuple<float, double, double>;
  // (matrix of x, its columns, condition, rows, condition rows, condition columns)
  using Input = std::tuple<Matrix, int64_t, Address, Address, int64_t, int64_t>;
  m.def(
      "mlp_forward",
      [](const Sizes& s, const Scales& f, const Input& in, Address weights, const Matrix& y, int64_t points, Address stream) {
        const MlpShape shape = {std::get<0>(s), std::get<1>(s), std::get<2>(s), std::get<3>(s),
                                static_cast<Activation>(std::get<4>(s)), std::get<0>(f), std::get<5>(s), std::get<6>(s),
                                static_cast<Activation>(std::get<7>(s)), std::get<1>(f), std::get<2>(f)};
        const MlpInput input = {as_matrix<const float>(std::get<0>(in)), std::get<1>(in),
                                at<const float>(std::get<2>(in)),        at<const int32_t>(std::get<3>(in)),
                                std::get<4>(in),                         std::get<5>(in)};
        mlp_forward(shape, input, at<const float>(weights), as_matrix<float>(y), points, as_stream(stream));
      },
      unlocked());
}

void bind_rendering(py::module_& m) {
  // Addresses: sigma, rgb, t0, t1, offsets, background
  using In = std::tuple<Address, Address, Address, Address, Address, Address>;
  const auto inputs = [](const In& in) -> CompositeInputs {
    return {at<const float>(std::get<0>(in)), at<const float>(std::get<1>(in)),   at<const float>(std::get<2>(in)),
            at<const float>(std::get<3>(in)), at<const int64_t>(std::get<4>(in)), at<const float>(std::get<5>(in))};
  };
  using Five = std::tuple<Address, Address, Address, Address, Address>;  // color, depth, opacity, left, weights
  m.def(
      "composite_forward",
      [inputs](const In& in, const Five& out, int64_t rays, Address stream) {
        composite_forward(inputs(in),
                          {at<float>(std::get<0>(out)), at<float>(std::get<1>(out)), at<float>(std::get<2>(out)),
                           at<float>(std::get<3>(out)), at<float>(std::get<4>(out))},
                          rays, as_stream(stream));
      },
      unlocked());
  m.def(
      "composite_backward",
      [inputs](const In& in, Address weights, Address left, const Five& g, Address to_sigma, Address to_rgb,
               Address to_background, int64_t rays, Address stream) {
        composite_backward(inputs(in), at<const float>(weights), at<const float>(left),
                           {at<const float>(std::get<0>(g)), at<const float>(std::get<1>(g)), at<const float>(std::get<2>(g)),
                            at<const float>(std::get<3>(g)), at<const float>(std::get<4>(g))},
                           {at<float>(to_sigma), at<float>(to_rgb), at<float>(to_background)}, rays, as_stream(stream));
      },
      unlocked());

  // Addresses: origins, directions, near, far, jitter (or 0)
  const auto as_rays = [](const Five& r) -> MarchRays {
    return {at<const float>(std::get<0>(r)), at<const float>(std::get<1>(r)), at<const float>(std::get<2>(r)),
            at<const float>(std::get<3>(r)), at<const float>(std::get<4>(r))};
  };
  using Three = std::tuple<float, float, float>;
  // (centre, 1 / half size, levels, resolution, address of the distances)
  using Box = std::tuple<Three, Three, int32_t, int32_t, Address>;
  const auto as_grid = [](const Box& b) -> MarchGrid {
    const Three &c = std::get<0>(b), &h = std::get<1>(b);
    return {{std::get<0>(c), std::get<1>(c), std::get<2>(c)},
            {std::get<0>(h), std::get<1>(h), std::get<2>(h)},
            std::get<2>(b),
            std::get<3>(b),
            at<const uint8_t>(std::get<4>(b))};
  };
  // step, cone, largest, grow, flat, u_grow, u_flat
  using Step = std::tuple<float, float, float, float, float, float, float>;
  const auto as_step = [](const Step& s) -> MarchStep {
    return {std::get<0>(s), std::get<1>(s), std::get<2>(s), std::get<3>(s), std::get<4>(s), std::get<5>(s), std::get<6>(s)};
  };
  m.def(
      "ray_march_count",
      [=](const Five& rays, const Box& grid, const Step& step, int64_t max_samples, int64_t count, Address counts,
          Address stream) {
        ray_march_count(as_rays(rays), as_grid(grid), as_step(step), max_samples, count, at<int64_t>(counts),
                        as_stream(stream));
      },
      unlocked());
  m.def(
      "ray_march_fill",
      [=](const Five& rays, const Box& grid, const Step& step, int64_t count, Address offsets, Address positions, Address t0,
          Address t1, Address ray_ids, Address stream) {
        ray_march_fill(as_rays(rays), as_grid(grid), as_step(step), count, at<const int64_t>(offsets),
                       {at<float>(positions), at<float>(t0), at<float>(t1), at<int32_t>(ray_ids)}, as_stream(stream));
      },
      unlocked());
}

void bind_adam(py::module_& m) {
  // Addresses: value, gradient, first moment, second moment, count (uint16), touched (or 0); then the number of entries
  using Tensor = std::tuple<Address, Address, Address, Address, Address, Address, int64_t>;
  // rate, beta1, beta2, eps, decay, scale; addresses of the two tables of bias corrections (device), their length
  using Settings = std::tuple<float, float, float, float, float, float, Address, Address, int32_t>;
  m.def(
      "adam_step",
      [](const Tensor& t, const Settings& s, Address unusable, Address stream) {
        adam_step({at<float>(std::get<0>(t)), at<float>(std::get<1>(t)), at<float>(std::get<2>(t)), at<float>(std::get<3>(t)),
                   at<uint16_t>(std::get<4>(t)), at<uint8_t>(std::get<5>(t)), std::get<6>(t)},
                  {std::get<0>(s), std::get<1>(s), std::get<2>(s), std::get<3>(s), std::get<4>(s), std::get<5>(s),
                   at<const float>(std::get<6>(s)), at<const float>(std::get<7>(s)), std::get<8>(s)},
                  at<int>(unusable), as_stream(stream));
      },
      unlocked());
}

}  // namespace

void bind_all(py::module_& m) {
  m.doc() = "CUDA kernels of polyfield. Addresses and sizes only: the caller checks.";
  bind_encoders(m);
  bind_mlp(m);
  bind_rendering(m);
  bind_adam(m);
}

}  // namespace cuda
}  // namespace polyfield

#if defined(POLYFIELD_CUDA_SHIM)
PYBIND11_MODULE(_cuda_shim, m) {
  polyfield::cuda::bind_all(m);
  m.def("set_run_backwards", &polyfield::shim::set_run_backwards, "Run each block's threads from the last to the first.");
  m.def("device_count", [] { return 0; });
}
#else
PYBIND11_MODULE(_cuda, m) {
  polyfield::cuda::bind_all(m);
  m.def(
      "device_count",
      [] {
        int count = 0;
        return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
      },
      "Number of GPUs; 0 where there is no driver.");
}
#endif
