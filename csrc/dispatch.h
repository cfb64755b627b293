// Choosing the instruction set at run time.
//
// A family NAME declares in kernels/NAME.h a struct of function pointers `NameKernels` and, by
// POLYFIELD_FAMILY(NameKernels, name), one constant of it per instruction set; kernels/NAME.cpp, compiled once
// for each, defines the constant inside `namespace POLYFIELD_ISA`. `name()` then returns the chosen one.
//
// Kernel files stay free of inline functions from headers (no <vector>, no <algorithm>) outside
// `namespace POLYFIELD_ISA`: the linker could otherwise merge an AVX-512 copy into the plain path.
#pragma once

namespace polyfield {

enum class Isa { base, avx2, avx512, avx512bf16, amx };

// The best set this processor has, or the one that POLYFIELD_ISA names.
// Throws std::runtime_error with a sentence when that is unknown or not supported here.
Isa isa();
const char* isa_name(Isa isa);
// Comma-separated names of all sets that run on this machine, worst first.
const char* isa_supported();

}  // namespace polyfield

#if defined(POLYFIELD_X86)
#define POLYFIELD_FAMILY(Type, name)                 \
  namespace base { extern const Type name; }         \
  namespace avx2 { extern const Type name; }         \
  namespace avx512 { extern const Type name; }       \
  namespace avx512bf16 { extern const Type name; }   \
  namespace amx { extern const Type name; }          \
  inline const Type& name() {                        \
    switch (isa()) {                                 \
      case Isa::amx: return amx::name;               \
      case Isa::avx512bf16: return avx512bf16::name; \
      case Isa::avx512: return avx512::name;         \
      case Isa::avx2: return avx2::name;             \
      default: return base::name;                    \
    }                                                \
  }
#elif defined(POLYFIELD_ISA)
#define POLYFIELD_FAMILY(Type, name) \
  namespace POLYFIELD_ISA { extern const Type name; }
#else
#define POLYFIELD_FAMILY(Type, name)         \
  namespace base { extern const Type name; } \
  inline const Type& name() { return base::name; }
#endif
