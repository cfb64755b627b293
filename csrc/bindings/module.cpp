#include "bindings/module.h"

#include <vector>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "dispatch.h"
#include "parallel.h"

namespace polyfield {
namespace {
std::vector<Binder>& binders() {
  static std::vector<Binder> all;
  return all;
}
}  // namespace

bool add_binder(Binder binder) {
  binders().push_back(binder);
  return true;
}
}  // namespace polyfield

PYBIND11_MODULE(_core, m) {
  using namespace polyfield;
  m.doc() = "Native kernels of polyfield. Addresses and sizes only: call the wrappers, which check.";
  m.def("isa", [] { return isa_name(isa()); }, "Name of the instruction set in use.");
  m.def("isa_supported", [] { return isa_supported(); }, "Names of the sets that run here.");
  m.def(
      "keep_memory",
      [] {
#if defined(__GLIBC__)
        mallopt(M_MMAP_MAX, 0);  // a larger M_MMAP_THRESHOLD than 32 MB would be refused
        mallopt(M_TRIM_THRESHOLD, 1 << 30);
        mallopt(M_TOP_PAD, 64 << 20);
#endif
      },
      "Keep freed memory in the process: glibc else gives each large block back and faults in its pages again.");
  m.def("thread_count", &thread_count);
  m.def("set_thread_count", &set_thread_count);
#if defined(_OPENMP)
  m.attr("openmp") = true;
#else
  m.attr("openmp") = false;
#endif
  for (Binder binder : binders()) binder(m);
}
