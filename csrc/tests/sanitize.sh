#!/usr/bin/env bash
# Builds the C++ driver of all kernels under the sanitizers and runs it; fails on any finding.
#   addresses and undefined behaviour, plain path; the same with this machine's instructions; data races
# Without OpenMP: gcc's libgomp confuses ThreadSanitizer, and parallel_for has a second implementation on std::thread.
# usage: sanitize.sh [build folder]
set -euo pipefail
csrc=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-${TMPDIR:-/tmp}/polyfield-sanitize}
jobs=${JOBS:-2}

sanitize() {
  local name=$1 && shift
  local out=$build/$name
  mkdir -p "$out"
  # One instruction set is enough, and the flags say which: without POLYFIELD_X86 dispatch knows `base` alone.
  local flags=(-std=c++17 -O1 -g1 -fno-omit-frame-pointer -Wno-psabi -Wno-maybe-uninitialized -I"$csrc" -DPOLYFIELD_ISA=base
    -fno-math-errno -ffp-contract=fast "$@")
  printf '%s\n' "$csrc"/kernels/*.cpp |
    xargs -P "$jobs" -I{} sh -c 'exec "$0" -c "$@" -o "'"$out"'/$(basename {} .cpp).o" {}' "${CXX:-g++}" "${flags[@]}"
  # The rest must not see POLYFIELD_ISA: it calls the kernels.
  "${CXX:-g++}" "${flags[@]}" -UPOLYFIELD_ISA "$csrc"/tests/sanitize*.cpp "$csrc"/*.cpp \
    "$out"/*.o -pthread -o "$out/driver"
  echo "sanitizers, $name:"
  "$out/driver"
}

export ASAN_OPTIONS=detect_leaks=1:halt_on_error=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 TSAN_OPTIONS=halt_on_error=1
address=(-fsanitize=address,undefined -fno-sanitize-recover=all)
sanitize address-plain "${address[@]}"
sanitize address-native "${address[@]}" -march=native
sanitize thread -fsanitize=thread -march=native
