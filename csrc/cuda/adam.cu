// Adam: a thread an entry; whole lines that were not touched are left at once.
#include "cuda/kernels.h"
#include "math/adam.h"

namespace polyfield {
namespace cuda {
namespace {

constexpr int adam_threads = 256;  // a multiple of a warp, so that a line's entries are in one warp

__global__ void adam_entries(AdamTensor tensor, AdamSettings settings, int* unusable) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  const int64_t line = i / adam_line;
  const bool there = i < tensor.n;
  const bool go = there && (tensor.touched == nullptr || tensor.touched[line] != 0);
  __syncwarp();  // all have read the line's mark before it is cleared
  if (!go) return;
  if (tensor.touched != nullptr && i % adam_line == 0) tensor.touched[line] = 0;
  const float raw = tensor.gradient[i];
  if (raw == 0.f) return;
  tensor.gradient[i] = 0.f;
  const float g = raw * settings.scale;
  if (!(g * g <= 3.4e38f)) {
    atomicOr(unusable, 1);
    return;
  }
  const uint16_t was = tensor.count[i];
  tensor.count[i] = was < 65535 ? static_cast<uint16_t>(was + 1) : was;
  const int32_t place = was < settings.corrections - 1 ? was : settings.corrections - 1;
  tensor.value[i] = adam_entry(settings, tensor.value[i], raw, settings.first[place], settings.second[place],
                               tensor.first + i, tensor.second + i);
}

}  // namespace

void adam_step(const AdamTensor& tensor, const AdamSettings& settings, int* unusable, Stream stream) {
  if (tensor.n == 0) return;
  POLYFIELD_LAUNCH(adam_entries, blocks_for(tensor.n, adam_threads), adam_threads, 0, stream, tensor, settings, unusable);
}

}  // namespace cuda
}  // namespace polyfield
