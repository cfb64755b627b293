#include "kernels/domain.h"

#include <array>

#include <pybind11/stl.h>

#include "bindings/module.h"
#include "parallel.h"

POLYFIELD_BINDINGS(domain) {
  using Triple = std::array<float, 3>;
  m.def(
      "domain_box",
      [](Address positions, const Triple& low, const Triple& inverse, int64_t n, Address unit, Address inside) {
        parallel_for(n, 4096, [&](int64_t begin, int64_t end, int) {
          domain().box(at<const float>(positions), low.data(), inverse.data(), begin, end, at<float>(unit),
                       at<uint8_t>(inside));
        });
      },
      unlocked());
  m.def(
      "domain_contraction",
      [](Address positions, const Triple& center, float inverse, int64_t n, Address unit) {
        parallel_for(n, 4096, [&](int64_t begin, int64_t end, int) {
          domain().contraction(at<const float>(positions), center.data(), inverse, begin, end, at<float>(unit));
        });
      },
      unlocked());
  m.def(
      "exp_density",
      [](Address raw, int64_t stride, Address inside, float gain, float limit, int64_t n, Address sigma) {
        parallel_for(n, 4096, [&](int64_t begin, int64_t end, int) {
          domain().exp_density(at<const float>(raw), stride, at<const uint8_t>(inside), gain, limit, begin, end,
                               at<float>(sigma));
        });
      },
      unlocked());
}
