#include "orient_faces.h"

#include "bindings/module.h"

POLYFIELD_BINDINGS(orient_faces) {
  m.def(
      "orient_faces",
      [](Address faces, int64_t count, Address turned, Address piece) {
        return orient_faces(at<const int64_t>(faces), count, at<uint8_t>(turned), at<int64_t>(piece));
      },
      "Faces [count, 3] int64 to which to turn round, uint8, and pieces, int64; how many pieces.", unlocked());
}
