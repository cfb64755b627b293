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

// new_offsets [R + 1]; returns the number of samples kept.
int64_t visible(Address sigma, Address t0, Address t1, Address offsets, int64_t rays, float min_transmittance,
                Address new_offsets) {
  int64_t* kept = at<int64_t>(new_offsets);
  parallel_for(rays, grain, [&](int64_t begin, int64_t end, int) {
    composite().visible(at<const float>(sigma), at<const float>(t0), at<const float>(t1), at<const int64_t>(offsets),
                        min_transmittance, begin, end, kept + 1);
  });
  kept[0] = 0;
  for (int64_t r = 0; r < rays; ++r) kept[r + 1] += kept[r];
  return kept[rays];
}

// indices [new_offsets[R]]: the first samples of each ray.
void prefixes(Address offsets, Address new_offsets, int64_t rays, Address indices) {
  const auto* from = at<const int64_t>(offsets);
  const auto* to = at<const int64_t>(new_offsets);
  auto* out = at<int64_t>(indices);
  for (int64_t r = 0; r < rays; ++r)
    for (int64_t n = to[r]; n < to[r + 1]; ++n) out[n] = from[r] + (n - to[r]);
}

}  // namespace
}  // namespace polyfield

POLYFIELD_BINDINGS(composite) {
  m.def("composite_forward", &forward, unlocked());
  m.def("composite_backward", &backward, unlocked());
  m.def("composite_visible", &visible, unlocked());
  m.def("composite_prefixes", &prefixes, unlocked());
}
