// Drives modulated rows: see sanitize.cpp.
#include "kernels/modulate.h"
#include "parallel.h"
#include "tests/watched.h"

using namespace polyfield;

POLYFIELD_DRIVER(modulate, int64_t n) {
  for (int64_t columns : {1, 5, 16, 37, 256}) {
    for (bool normalise : {false, true}) {
      // Both numbers of a point side by side, so that the last one ends the buffer.
      Floats z = randoms(n * columns, -2, 2), both = randoms(2 * n, -1, 1), g = randoms(n * columns, -1, 1);
      Floats y(n * columns), to_z(n * columns), to_scale(n), to_shift(n);
      const ModulateJob job = {z, columns, both, static_cast<float*>(both) + (n > 0 ? 1 : 0), 2, normalise};
      parallel_for(n, 16, [&](int64_t begin, int64_t end, int) {
        modulate().forward(job, y, begin, end);
        modulate().backward(job, g, to_z, to_scale, to_shift, begin, end);
      });
      expect_finite(y, "modulated rows");
      expect_finite(to_z, "gradient of modulated rows");
      expect_finite(to_scale, "gradient of scales");
      expect_finite(to_shift, "gradient of shifts");
    }
  }
}
