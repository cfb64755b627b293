// Native forms of the parts of fields. What holds them is bound in point_field.cpp.
#include "bindings/hash_grid.h"
#include "point_encoder.h"
#include "point_gate.h"
#include "point_head.h"

POLYFIELD_BINDINGS(point_parts) {
  using namespace polyfield;
  py::class_<PointEncoder>(m, "PointEncoder");
  py::class_<HashGridPoints, PointEncoder>(m, "HashGridPoints")
      .def(py::init([](Address levels, int active, int features, bool smooth, Address table, int64_t width,
                       Address gradient, Address touched) {
        const HashGridJob grid = hash_grid_job(levels, active, 3, features, smooth, 0, 0, 0);
        return HashGridPoints(grid, at<const float>(table), width, at<float>(gradient), at<uint8_t>(touched));
      }));
  py::class_<FactorGridPoints, PointEncoder>(m, "FactorGridPoints")
      .def(py::init([](Address factors, int factor_count, int group_count, int channels, Address table, Address gradient,
                       Address touched) {
        const FactorGridJob grids = {at<const FactorGridFactor>(factors), factor_count, group_count, channels, 3, nullptr,
                                     at<const float>(table)};
        return FactorGridPoints(grids, at<float>(gradient), at<uint8_t>(touched));
      }));
  py::class_<FrequencyPoints, PointEncoder>(m, "FrequencyPoints").def(py::init<int, bool>());
  py::class_<SparseGridPoints, PointEncoder>(m, "SparseGridPoints")
      .def(py::init([](int side, int rows, int channels, Address index, Address table, Address gradient, Address touched) {
        const SparseGridJob grid = {side, rows, channels, at<const int32_t>(index), at<const float>(table)};
        return SparseGridPoints(grid, at<float>(gradient), at<uint8_t>(touched));
      }));
  py::class_<RbfPoints, PointEncoder>(m, "RbfPoints")
      .def(py::init([](Address index, Address centres, Address shapes, Address extent, Address features,
                       Address frequencies, int64_t rows, int channels, int neighbours, int kernel, bool normalise,
                       Address gradient, Address touched) {
        const RbfJob bases = {nullptr, nullptr, at<const float>(centres), at<const float>(shapes), at<const float>(extent),
                              at<const float>(features), at<const float>(frequencies), rows, 3, channels, neighbours,
                              static_cast<RbfKernel>(kernel), normalise};
        return RbfPoints(at<const RbfIndex>(index), bases, at<float>(gradient), at<uint8_t>(touched));
      }));
  py::class_<JoinedPoints, PointEncoder>(m, "JoinedPoints")
      .def(py::init<const PointEncoder&, const PointEncoder&>(), py::keep_alive<1, 2>(), py::keep_alive<1, 3>());

  py::class_<PointGate>(m, "PointGate");
  py::class_<SaliencyGate, PointGate>(m, "SaliencyGate")
      .def(py::init([](Address box, Address table, float alpha, Address closed, int cells, Address gradient) {
        const FactorGridJob grid = {at<const FactorGridFactor>(box), 1, 1, 1, 3, nullptr, at<const float>(table)};
        return SaliencyGate(grid, alpha, at<const uint8_t>(closed), cells, at<float>(gradient));
      }));

  py::class_<PointHead>(m, "PointHead");
  py::class_<NetworkHead, PointHead>(m, "NetworkHead")
      .def(py::init([](const MlpShape& shape, Address weights, bool bf16, Address gradient) {
        return NetworkHead(shape, at<const float>(weights), bf16, at<float>(gradient));
      }));
  py::class_<SquaresHead, PointHead>(m, "SquaresHead")
      .def(py::init([](const MlpShape& shape, Address weights, Address gradient, const py::object&) {
             return SquaresHead(shape, at<const float>(weights), at<float>(gradient));
           }),
           py::keep_alive<1, 5>());  // whose the weights are
  py::class_<SumHead, PointHead>(m, "SumHead").def(py::init<float>());
  py::class_<IdentityHead, PointHead>(m, "IdentityHead").def(py::init<int64_t>());
  py::class_<HarmonicsHead, PointHead>(m, "HarmonicsHead").def(py::init<int64_t, int64_t>());
}
