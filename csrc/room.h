// Workspaces that are kept from call to call.
#pragma once

#include <cstdint>
#include <vector>

namespace polyfield {

// A vector with room for at least `size`; it never shrinks.
template <class T>
T* room(std::vector<T>& memory, int64_t size) {
  if (static_cast<int64_t>(memory.size()) < size) memory.resize(size);
  return memory.data();
}

}  // namespace polyfield
