#!/usr/bin/env bash
# Builds the C++ driver of all kernels under the sanitizers and runs it; fails on any finding.
#   addresses and undefined behaviour, plain path; the same with this machine's instructions; data races
# Without OpenMP: gcc's libgomp confuses ThreadSanitizer, and parallel_for has a second implementation on std::thread.
# usage: sanitize.sh [build folder]
set -euo pipefail
csrc=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-${TMPDIR:-/tmp}/polyfield-sanitize}
jobs=${JOBS:-2}

build() {
  local name=$1 && shift
  local out=$build/$name
  mkdir -p "$out"
  # One instruction set is enough, and the flags say which: without POLYFIELD_X86 dispatch knows `base` alone.
  local flags=(-std=c++17 -O1 -g1 -fno-omit-frame-pointer -Wno-psabi -Wno-maybe-uninitialized -I"$csrc"
    -fno-math-errno -ffp-contract=fast "$@")
  rm -f "$out"/*.o
  # Kernels alone see POLYFIELD_ISA: the rest calls them.
  printf '%s\n' "$csrc"/kernels/*.cpp "$csrc"/tests/sanitize*.cpp "$csrc"/*.cpp |
    xargs -P "$jobs" -I{} sh -c 'case {} in */kernels/*) isa=-DPOLYFIELD_ISA=base ;; *) isa= ;; esac
      exec "$0" $isa -c "$@" -o "'"$out"'/$(basename {} .cpp).o" {}' "${CXX:-g++}" "${flags[@]}"
  "${CXX:-g++}" "${flags[@]}" "$out"/*.o -pthread -o "$out/driver"
}

export ASAN_OPTIONS=detect_leaks=1:halt_on_error=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 TSAN_OPTIONS=halt_on_error=1
address=(-fsanitize=address,undefined -fno-sanitize-recover=all)
build address-plain "${address[@]}"
build address-native "${address[@]}" -march=native
build thread -fsanitize=thread -march=native
printf '%s\n' address-plain address-native thread |
  xargs -P "$jobs" -I{} sh -c '"$0/{}/driver" && echo "sanitizers, {}: passed"' "$build"
