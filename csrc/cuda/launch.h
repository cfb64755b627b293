// Starting CUDA kernels, on a GPU or, in the host shim, on fibres.
//
// POLYFIELD_LAUNCH(kernel, grid, block, shared, stream, arguments...) is the only way that kernels are started. Compiled by nvcc
// it launches; compiled by a C++ compiler with POLYFIELD_CUDA_SHIM it runs the same kernel text on this machine's
// processor (shim.h), which is how the tests execute it where no GPU is.
#pragma once

#include <cstdint>

#if defined(POLYFIELD_CUDA_SHIM)
#include "cuda/shim.h"
#else
#include <cuda_runtime.h>
#include <stdexcept>
#include <string>
#endif

namespace polyfield {
namespace cuda {

constexpr unsigned full_warp = 0xffffffffu;

inline unsigned blocks_for(int64_t count, int64_t per_block) { return static_cast<unsigned>((count + per_block - 1) / per_block); }

#if defined(POLYFIELD_CUDA_SHIM)

using Stream = void*;

#define POLYFIELD_LAUNCH(kernel, grid, block, shared, stream, ...) \
  (static_cast<void>(stream), ::polyfield::shim::launch(grid, block, shared, [&] { kernel(__VA_ARGS__); }))

// Dynamic shared memory of a kernel, aligned to 16 bytes.
#define POLYFIELD_SHARED(T, name) T* name = reinterpret_cast<T*>(::polyfield::shim::shared_memory())

template <class Kernel>
void allow_shared(Kernel, size_t) {}

#else

using Stream = cudaStream_t;

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

#define POLYFIELD_LAUNCH(kernel, grid, block, shared, stream, ...)   \
  do {                                                               \
    kernel<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__);    \
    ::polyfield::cuda::check(cudaGetLastError(), #kernel);           \
  } while (false)

#define POLYFIELD_SHARED(T, name)                                  \
  extern __shared__ __align__(16) unsigned char polyfield_shared[]; \
  T* name = reinterpret_cast<T*>(polyfield_shared)

// More than 48 KiB a block must be asked for.
template <class Kernel>
void allow_shared(Kernel kernel, size_t bytes) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "shared memory of a block");
}

#endif

}  // namespace cuda
}  // namespace polyfield
