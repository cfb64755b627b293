// Memory that the sanitizers watch, and what is expected of results: for sanitize.cpp and the drivers beside it.
//
// Buffers are exactly as long as a kernel may use, so that a step beyond is seen. Values are checked by the Python
// tests; here a result must only be finite and not depend on anything uninitialised.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

namespace polyfield {

inline int findings = 0;

inline void expect(bool fine, const char* what) {
  if (fine) return;
  std::fprintf(stderr, "sanitize: %s\n", what);
  ++findings;
}

inline float next_random() {  // in [0, 1)
  static uint32_t state = 12345;
  state = state * 1664525u + 1013904223u;
  return static_cast<float>(state >> 8) * 0x1p-24f;
}

// Exactly n elements of their own, so that the address sanitizer guards both ends.
template <class T>
struct Buffer {
  explicit Buffer(int64_t n, T value = T{}) : size(n), memory(new T[n > 0 ? n : 1]) {
    for (int64_t i = 0; i < n; ++i) memory[i] = value;
  }
  operator T*() { return memory.get(); }
  T& operator[](int64_t i) { return memory[i]; }
  int64_t size;
  std::unique_ptr<T[]> memory;
};
using Floats = Buffer<float>;

inline Floats randoms(int64_t n, float low, float high) {
  Floats b(n);
  for (int64_t i = 0; i < n; ++i) b[i] = low + (high - low) * next_random();
  return b;
}

inline void expect_finite(Floats& b, const char* what) {
  bool fine = true;
  for (int64_t i = 0; i < b.size; ++i) fine = fine && std::isfinite(b[i]);
  expect(fine, what);
}

struct Scratch {  // a tile for each thread, aligned to 64 bytes
  Scratch(size_t floats, int threads)
      : each((floats + 15) / 16 * 16),
        memory(static_cast<float*>(std::aligned_alloc(64, each * threads * sizeof(float))), &std::free) {}
  float* of(int thread) { return memory.get() + each * thread; }
  size_t each;
  std::unique_ptr<float, void (*)(void*)> memory;
};

// What is driven, with sizes that do and do not fill vectors and blocks.
using Driver = void (*)(int64_t n);
inline std::vector<Driver>& drivers() {
  static std::vector<Driver> all;
  return all;
}
inline bool add_driver(Driver driver) {
  drivers().push_back(driver);
  return true;
}

}  // namespace polyfield

// POLYFIELD_DRIVER(hash_grid, int64_t n) { ... }
#define POLYFIELD_DRIVER(name, n)                            \
  static void drive_##name(n);                               \
  static const bool driven_##name = add_driver(drive_##name); \
  static void drive_##name(n)
