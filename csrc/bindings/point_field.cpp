#include "point_field.h"

#include <algorithm>
#include <array>

#include <pybind11/stl.h>

#include "bindings/module.h"
#include "evaluation.h"
#include "photometric.h"
#include "replay.h"
#include "tracer.h"

namespace polyfield {
namespace {

using Triple = std::array<float, 3>;

PointField field_of(bool ball, const Triple& low, const Triple& inverse, const PointEncoder& encoder, const PointGate* gate,
                    const PointHead& density, const PointEncoder* appearance, const PointHead& color, int activation,
                    bool sigmoid, float gain, float limit) {
  PointField field = {};
  field.domain.ball = ball;
  std::copy(low.begin(), low.end(), field.domain.low);
  std::copy(inverse.begin(), inverse.end(), field.domain.inverse);
  field.encoder = &encoder;
  field.gate = gate;
  field.density = &density;
  field.appearance = appearance;
  field.color = &color;
  field.activation = static_cast<DensityActivation>(activation);
  field.sigmoid = sigmoid;
  field.gain = gain;
  field.limit = limit;
  return field;
}

using Conditions = std::tuple<Address, int64_t, int64_t>;  // values, rays, columns

PointConditions conditions_of(const Conditions& c) { return {at<const float>(std::get<0>(c)), std::get<1>(c), std::get<2>(c)}; }

int64_t trace(Tracer& tracer, Address origins, Address directions, Address jitter, int64_t rays, float near, float far,
              const Conditions& conditions, const TraceSettings& settings, const PointField& field, Address offsets) {
  return tracer.trace({at<const float>(origins), at<const float>(directions), at<const float>(jitter), rays, near, far,
                       conditions_of(conditions)},
                      settings, field, at<int64_t>(offsets));
}

void collect(Tracer& tracer, Address offsets, int64_t encoded_width, Address positions, Address t0, Address t1,
             Address sigma, Address color, Address encoded, Address ray_ids) {
  tracer.collect(at<const int64_t>(offsets), encoded_width,
                 {at<float>(positions), at<float>(t0), at<float>(t1), at<float>(sigma), at<float>(color),
                  at<float>(encoded), at<int32_t>(ray_ids)});
}

// False, and nothing done, where a sample or a ray is asked for that is not there.
bool replay(Replay& replay, const PointField& field, Address positions, Address rays, Address encoded,
            Address sigma_gradient, Address color_gradient, Address features_gradient, int64_t count,
            const Conditions& conditions, Address kept, Address weights, int64_t n) {
  return replay.run(field,
                    {at<const float>(positions), at<const int32_t>(rays), at<const float>(encoded),
                     at<const float>(sigma_gradient), at<const float>(color_gradient), at<const float>(features_gradient),
                     count},
                    conditions_of(conditions), at<const int64_t>(kept), at<const float>(weights), n);
}

// False, and nothing done, where a sample's ray is not there.
bool evaluate(Evaluation& evaluation, const PointField& field, Address positions, Address rays,
              const Conditions& conditions, int64_t count, Address sigma, Address color, Address features,
              Address encoded) {
  return evaluation.run(field, at<const float>(positions), at<const int32_t>(rays), conditions_of(conditions), count,
                        {at<float>(sigma), at<float>(color), at<float>(features), at<float>(encoded)});
}

std::pair<double, double> photometric(Photometric& photometric, const std::array<Address, 6>& samples, int64_t rays,
                                      Address color, Address alpha, Address weights, float delta, Address to_sigma,
                                      Address to_rgb, Address importance) {
  const CompositeInputs in = {at<const float>(samples[0]), at<const float>(samples[1]), at<const float>(samples[2]),
                              at<const float>(samples[3]), at<const int64_t>(samples[4]), at<const float>(samples[5])};
  const PhotometricSums sums = photometric.run(
      {in, at<const float>(color), at<const float>(alpha), at<const float>(weights), rays, delta},
      {at<float>(to_sigma), at<float>(to_rgb), at<float>(importance)});
  return {sums.loss, sums.square};
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(point_field) {
  using namespace polyfield;
  py::class_<PointField>(m, "PointField")
      .def(py::init(&field_of), py::keep_alive<1, 5>(), py::keep_alive<1, 6>(), py::keep_alive<1, 7>(),
           py::keep_alive<1, 8>(), py::keep_alive<1, 9>());
  py::class_<TraceSettings>(m, "TraceSettings")
      .def(py::init([](const MarchLattice& lattice, Address depths, float min_transmittance, bool keep_encoded) {
        return TraceSettings{lattice, at<const float>(depths), min_transmittance, keep_encoded};
      }));
  py::class_<Tracer>(m, "Tracer")
      .def(py::init<>())
      .def("trace", &trace, unlocked())
      .def("collect", &collect, unlocked());
  py::class_<Evaluation>(m, "Evaluation").def(py::init<>()).def("run", &evaluate, unlocked());
  py::class_<Replay>(m, "Replay").def(py::init<>()).def("run", &replay, unlocked());
  py::class_<Photometric>(m, "Photometric").def(py::init<>()).def("run", &photometric, unlocked());
}
