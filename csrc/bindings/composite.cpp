#include "kernels/composite.h"

#include "bindings/module.h"
#include "parallel.h"

namespace polyfield {
namespace {

constexpr int64_t grain = 32;  // rays

CompositeInputs inputs(Address sigma, Address rgb, Address t0, Address t1, Address offsets, Address background) {
  return {at<const float>(sigma), at<const float>(rgb),       at<const float>(t0),
          at<const float>(t1),    at<const int64_t>(offsets), at<const float>(background)};
}

void forward(Address sigma, Address rgb, Address t0, Address t1, Address offsets, Address background, int64_t rays,
             Address color, Address depth, Address opacity, Address left, Address weights) {
  const auto in = inputs(sigma, rgb, t0, t1, offsets, background);
  const CompositeOutputs out = {at<float>(color), at<float>(depth), at<float>(opacity), at<float>(left),
                                at<float>(weights)};
  parallel_for(rays, grain, [&](int64_t begin, int64_t end, int) { composite().forward(in, out, begin, end); });
}

void backward(Address sigma, Address rgb, Address t0, Address t1, Address offsets, Address background, int64_t rays,
              Address weights, Address left, Address of_color, Address of_depth, Address of_opacity, Address of_left,
              Address of_weights, Address to_sigma, Address to_rgb, Address to_background) {
  const auto in = inputs(sigma, rgb, t0, t1, offsets, background);
  const CompositeCotangents cotangents = {at<const float>(of_color), at<const float>(of_depth),
                                          at<const float>(of_opacity), at<const float>(of_left),
                                          at<const float>(of_weights)};
  const CompositeGradients out = {at<float>(to_sigma), at<float>(to_rgb), at<float>(to_background)};
  parallel_for(rays, grain, [&](int64_t begin, int64_t end, int) {
    composite().backward(in, at<const float>(weights), at<const float>(left), cotangents, out, begin, end);
  });
}

void visible(Address sigma, Address t0, Address t1, Address offsets, int64_t rays, float min_transmittance,
             Address left, Address counts) {
  parallel_for(rays, grain, [&](int64_t begin, int64_t end, int) {
    composite().visible(at<const float>(sigma), at<const float>(t0), at<const float>(t1), at<const int64_t>(offsets),
                        min_transmittance, begin, end, at<float>(left), at<int64_t>(counts));
  });
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(composite) {
  m.def("composite_forward", &forward, unlocked());
  m.def("composite_backward", &backward, unlocked());
  m.def("composite_visible", &visible, unlocked());
}
