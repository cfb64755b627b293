// What this machine can do at best: the rates that benchmarks compare kernels with.
#pragma once

#include <cstdint>

#include "dispatch.h"

namespace polyfield {

struct CeilingsKernels {
  // Multiply-adds on values that stay in registers. Each thread does `rounds` rounds; returns the floating point
  // operations done by all. bf16: what the set multiplies bfloat16 pairs with, or fp32 where it has nothing for them.
  double (*multiply_fp32)(int64_t rounds);
  double (*multiply_bf16)(int64_t rounds);
  // Reads 8-byte entries at `indices[count]`, each below `entries`; returns a sum of them.
  uint64_t (*gather)(const uint64_t* table, const int32_t* indices, int64_t count);
  void (*copy)(float* to, const float* from, int64_t count);
};
POLYFIELD_FAMILY(CeilingsKernels, ceilings)

}  // namespace polyfield
