#include "dispatch.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

#if defined(POLYFIELD_X86) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(POLYFIELD_X86)
#include <cpuid.h>
#endif

namespace polyfield {
namespace {

constexpr Isa all[] = {Isa::base, Isa::avx2, Isa::avx512, Isa::avx512bf16, Isa::amx};

#if defined(POLYFIELD_X86)
// AMX tiles need the processor (CPUID 7.0 EDX bits 22 and 24) and the kernel's leave for this process.
bool amx_granted() {
#if defined(__linux__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  if (!(d & (1u << 22)) || !(d & (1u << 24))) return false;
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}
#endif

bool runs_here(Isa isa) {
  if (isa == Isa::base) return true;
#if defined(POLYFIELD_X86)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  switch (isa) {
    case Isa::avx2: return avx2;
    case Isa::avx512: return avx512;
    case Isa::avx512bf16: return bf16;
    case Isa::amx: return bf16 && amx_granted();
    default: return false;
  }
#else
  return false;
#endif
}

Isa choose() {
  const char* named = std::getenv("POLYFIELD_ISA");
  if (named == nullptr || *named == '\0') {
    Isa best = Isa::base;
    for (Isa isa : all)
      if (runs_here(isa)) best = isa;
    return best;
  }
  for (Isa isa : all) {
    if (std::string(named) != isa_name(isa)) continue;
    if (runs_here(isa)) return isa;
    throw std::runtime_error("POLYFIELD_ISA=" + std::string(named) + " asks for instructions that this processor lacks; it has " +
                             isa_supported() + ".");
  }
  throw std::runtime_error("POLYFIELD_ISA=" + std::string(named) + " is not an instruction set of this build; it knows " +
                           "base, avx2, avx512, avx512bf16, amx, and this processor has " + isa_supported() + ".");
}

}  // namespace

Isa isa() {
  static const Isa chosen = choose();
  return chosen;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::base: return "base";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::avx512bf16: return "avx512bf16";
    case Isa::amx: return "amx";
  }
  return "?";
}

const char* isa_supported() {
  static const std::string names = [] {
    std::string text;
    for (Isa isa : all)
      if (runs_here(isa)) text += (text.empty() ? "" : ", ") + std::string(isa_name(isa));
    return text;
  }();
  return names.c_str();
}

}  // namespace polyfield
