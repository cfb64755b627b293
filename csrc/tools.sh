#!/bin/sh
# Sees to what an installation from source needs of the system: Python 3.11 with venv, and a C++ compiler.
# CMake and ninja come from the package index when the system has none. As root on Debian or Ubuntu it installs what is
# missing; otherwise it names the one command to type.
set -eu
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
  echo "Polyfield needs Python 3.11 or newer, but $python is not that. Name one: make PYTHON=python3.12" >&2
  exit 1
}

missing=""
command -v g++ >/dev/null || command -v clang++ >/dev/null || missing="$missing g++"
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
"$python" -c 'import sysconfig, pathlib, sys
sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())' || missing="$missing python3-dev"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -q
  # shellcheck disable=SC2086  # a list of names
  DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends $missing
else
  echo "Missing:$missing. Type this, then the same make again:" >&2
  echo "  sudo apt-get install -y --no-install-recommends$missing" >&2
  exit 1
fi
