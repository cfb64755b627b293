#include "kernels/ceilings.h"

#include "bindings/module.h"

POLYFIELD_BINDINGS(ceilings) {
  using namespace polyfield;
  m.def("ceiling_multiply_fp32", [](int64_t rounds) { return ceilings().multiply_fp32(rounds); }, unlocked(),
        "Multiply-add in registers on every thread; returns the floating point operations done.");
  m.def("ceiling_multiply_bf16", [](int64_t rounds) { return ceilings().multiply_bf16(rounds); }, unlocked());
  m.def("ceiling_gather",
        [](Address table, Address indices, int64_t count) {
          return ceilings().gather(at<const uint64_t>(table), at<const int32_t>(indices), count);
        },
        unlocked());
  m.def("ceiling_copy",
        [](Address to, Address from, int64_t count) { ceilings().copy(at<float>(to), at<const float>(from), count); },
        unlocked());
}
