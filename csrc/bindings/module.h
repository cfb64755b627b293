// How a family adds its functions to the Python module: in bindings/NAME.cpp,
//   POLYFIELD_BINDINGS(name) { m.def("name_forward", ...); }
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

namespace polyfield {

namespace py = pybind11;

using Binder = void (*)(py::module_&);
bool add_binder(Binder binder);  // runs before the module is made

// Addresses cross the boundary as integers (`tensor.data_ptr()`); the Python wrapper has checked device,
// dtype, contiguity and sizes, and keeps the tensors alive.
using Address = std::uintptr_t;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

// Every call lets other Python threads run.
using unlocked = py::call_guard<py::gil_scoped_release>;

}  // namespace polyfield

#define POLYFIELD_BINDINGS(family)                                                     \
  namespace polyfield {                                                                \
  static void bind_##family(py::module_& m);                                           \
  static const bool bound_##family = add_binder(bind_##family);                        \
  }                                                                                    \
  static void polyfield::bind_##family([[maybe_unused]] pybind11::module_& m)
