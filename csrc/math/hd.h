// Arithmetic that CPU kernels and CUDA kernels share: POLYFIELD_HD functions take numbers, return numbers.
//
// POLYFIELD_HD_FORCED ones are inlined for certain: recursive templates that are to melt into straight code.
#pragma once

#if defined(__CUDACC__)
#define POLYFIELD_HD __host__ __device__
#define POLYFIELD_HD_FORCED __host__ __device__ __forceinline__
#else
#define POLYFIELD_HD
#define POLYFIELD_HD_FORCED inline __attribute__((always_inline))
#endif
