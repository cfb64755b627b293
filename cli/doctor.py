"""`polyfield doctor`: what was found on this machine, what is missing, and the one command that mends it."""

import argparse
import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from polyfield import __version__
from polyfield.cli.arguments import Parser, add_json, print_json
from polyfield.errors import PolyfieldError

__all__ = ["configure", "examine", "run"]

# What each optional package is for, and how to get it. tiny-cuda-nn is on no package index.
_OPTIONAL = {
    "av": ("videos", "pip install av"),
    "pycolmap": ("checks of COLMAP models", "pip install 'polyfield[colmap]'"),
    "nerfacc": ("rendering on a GPU", "pip install 'polyfield[gpu]'"),
    "gsplat": ("splats on a GPU", "pip install 'polyfield[gpu]'"),
    "tinycudann": (
        "fields on a GPU",
        "pip install 'git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch'",
    ),
}
_SWITCHES = ("POLYFIELD_ISA", "POLYFIELD_NATIVE")
_REINSTALL = "pip install --force-reinstall --no-deps polyfield"
_TEST_ONLY = {"pycolmap"}
_NEED_GPU = {"nerfacc", "gsplat", "tinycudann"}


def configure(parser: Parser) -> None:
    """Add the arguments."""
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print what was found; 1 when something that everybody needs is missing."""
    found = examine()
    if args.json:
        print_json(found)
    else:
        for key, value in found.items():
            if key not in ("packages", "missing", "ok"):
                print(f"{key.replace('_', ' '):<16} {_told(value)}")
        for name, state in found["packages"].items():
            print(f"{name:<16} {state}")
        for lack in found["missing"]:
            print(f"\n{lack['what']}\n  {lack['mend']}")
        if found["ok"]:
            print("\nPolyfield can run here.")
    from polyfield import native

    native.available()  # a switch that says nonsense is bad input, as with every other command
    return 0 if found["ok"] else 1


def examine() -> dict[str, Any]:
    """Look at the machine.

    Returns:
        JSON: versions, processor, native module, threads, memory, CUDA, disk, environment, "packages" (name -> version
        or "missing"), "missing" (objects with "what" and "mend"), and "ok": whether Polyfield can run.
    """
    missing: list[dict[str, str]] = []
    found: dict[str, Any] = {
        "polyfield": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "memory_gib": _memory(),
        "disk_free_gib": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
    }
    torch_works = _torch(found, missing)
    native_works = _native(found, missing)
    found["environment"] = {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(("POLYFIELD_", "OMP_")) or name == "CUDA_VISIBLE_DEVICES"
    }
    found["packages"] = {name: _version(name) for name in _OPTIONAL}
    for name, (use, mend) in _OPTIONAL.items():
        wanted = name not in _TEST_ONLY and (name not in _NEED_GPU or found.get("cuda_device"))
        if wanted and find_spec(name) is None:
            missing.append({"what": f"{name} is not installed; it is for {use}.", "mend": mend})
    found["missing"] = missing
    found["ok"] = torch_works and native_works
    return found


def _torch(found: dict[str, Any], missing: list[dict[str, str]]) -> bool:
    try:
        import torch
    except (ImportError, OSError) as error:
        found["torch"] = None
        missing.append(
            {
                "what": f"torch cannot be loaded ({error}).",
                "mend": "pip install 'torch>=2.13,<2.14'",
            }
        )
        return False
    found["torch"] = torch.__version__
    found["threads"] = torch.get_num_threads()
    cuda = torch.cuda.is_available()
    found["cuda_device"] = torch.cuda.get_device_name(0) if cuda else None
    return True


def _native(found: dict[str, Any], missing: list[dict[str, str]]) -> bool:
    """Look at the native module; False when nothing can run, which is when a switch says nonsense."""
    from polyfield import native

    found["native"], found["isa"] = False, "torch"
    asked = [name for name in _SWITCHES if os.environ.get(name, "on") != "on"]
    mend = f"unset {' '.join(asked)}" if asked else _REINSTALL
    try:
        found["native"] = native.available()
    except PolyfieldError as error:
        missing.append({"what": str(error), "mend": mend})
        return False
    try:
        module = native.core()
    except PolyfieldError as error:
        slower = "Everything runs without it, but many times slower."
        missing.append({"what": f"{error} {slower}", "mend": mend})
        return True
    found["isa"] = module.isa()
    found["isa_supported"] = module.isa_supported().split(", ")
    found["openmp"] = bool(module.openmp)
    found["native_threads"] = module.thread_count()
    if not module.openmp:
        missing.append({"what": "The native module was built without OpenMP.", "mend": _REINSTALL})
    return True


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()}, {os.cpu_count()} threads"
    except OSError:
        pass  # not Linux
    return f"{platform.processor() or 'unknown'}, {os.cpu_count()} threads"


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None


def _version(package: str) -> str:
    if find_spec(package) is None:
        return "missing"
    try:
        return version(package)
    except PackageNotFoundError:
        return "installed"


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "nothing set"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
