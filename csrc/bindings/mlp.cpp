#include "kernels/mlp.h"

#include "bindings/module.h"

namespace polyfield {
namespace {

MlpShape shape_of(int64_t inputs, int64_t outputs, int64_t width, int64_t hidden, int activation, float scale, bool bias,
                  uint64_t skips, int output_activation, double lowest_frequency, double highest_frequency) {
  return {inputs, outputs, width, hidden, static_cast<Activation>(activation),       scale, bias,
          skips,  static_cast<Activation>(output_activation), lowest_frequency, highest_frequency};
}

template <class T>
PointMatrix<T> matrix(const py::tuple& m) {  // (address, stride of points, stride of features)
  return {at<T>(m[0].cast<Address>()), m[1].cast<int64_t>(), m[2].cast<int64_t>()};
}

// (x matrix, columns, condition address, rows address, condition rows, condition columns)
MlpInput input_of(const py::tuple& i) {
  return {matrix<const float>(i[0].cast<py::tuple>()),
          i[1].cast<int64_t>(),
          at<const float>(i[2].cast<Address>()),
          at<const int32_t>(i[3].cast<Address>()),
          i[4].cast<int64_t>(),
          i[5].cast<int64_t>()};
}

bool rows_exist(const MlpInput& input, int64_t points) {
  bool strange = false;
  if (input.condition_columns > 0)  // and not the address: without rows there is none
    for (int64_t n = 0; n < points; ++n) strange |= input.rows[n] < 0 || input.rows[n] >= input.condition_rows;
  return !strange;
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(mlp) {
  using namespace polyfield;
  py::class_<MlpShape>(m, "MlpShape").def(py::init(&shape_of));
  m.def("mlp_saved_bytes",
        [](const MlpShape& shape, bool bf16, int64_t points) { return mlp().saved_bytes(shape, bf16, points); });
  // False, and nothing done, where a row of the condition is asked for that it does not have.
  m.def("mlp_forward", [](const MlpShape& shape, const py::tuple& input, Address weights, bool bf16, const py::tuple& y,
                          int64_t points, Address saved, int64_t saved_points) {
    const MlpInput in = input_of(input);
    const PointMatrix<float> out = matrix<float>(y);
    py::gil_scoped_release release;
    if (!rows_exist(in, points)) return false;
    mlp().forward(shape, in, at<const float>(weights), bf16, out, points, {at<char>(saved), saved_points});
    return true;
  });
  m.def("mlp_backward", [](const MlpShape& shape, const py::tuple& input, Address weights, bool bf16, const py::tuple& dy,
                           const py::tuple& y, const py::tuple& dx, Address dweights, Address dcondition, int64_t points,
                           Address saved, int64_t saved_points) {
    const MlpInput in = input_of(input);
    const MlpUpstream from = {matrix<const float>(dy), matrix<const float>(y)};
    const MlpGradients to = {matrix<float>(dx), at<float>(dweights), at<float>(dcondition)};
    py::gil_scoped_release release;
    mlp().backward(shape, in, at<const float>(weights), bf16, from, to, points, {at<char>(saved), saved_points});
  });
}
