#include "bindings/module.h"

#include <vector>

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
  m.def("thread_count", &thread_count);
  m.def("set_thread_count", &set_thread_count);
#if defined(_OPENMP)
  m.attr("openmp") = true;
#else
  m.attr("openmp") = false;
#endif
  for (Binder binder : binders()) binder(m);
}
