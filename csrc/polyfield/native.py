"""Finding the native kernels.

Every operation has a plain-torch reference; a kernel is a faster way to the same answer. `POLYFIELD_NATIVE=off` uses
the references everywhere, which is also what happens when the module was not built for this machine.
"""

import os
import threading
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from polyfield.errors import InputError, RunError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["at_once", "available", "core", "isa", "prefer_large_pages", "usable", "worker"]


@cache
def _load() -> tuple[ModuleType | None, str]:
    switch = os.environ.get("POLYFIELD_NATIVE", "on")
    if switch not in ("on", "off"):
        raise InputError(f"POLYFIELD_NATIVE must be 'on' or 'off', but is {switch!r}.")
    if switch == "off":
        return None, "it is switched off by POLYFIELD_NATIVE=off"
    try:
        from polyfield import _core
    except ImportError as error:
        return None, f"it did not load ({error}); reinstall with: pip install polyfield"
    try:
        _core.isa()
    except RuntimeError as error:  # POLYFIELD_ISA asks for what is not there
        raise InputError(str(error)) from None
    return _core, ""


def core() -> ModuleType:
    """Return the native module, or raise `RunError` saying why there is none."""
    module, reason = _load()
    if module is None:
        raise RunError(f"The native module is needed here, but {reason}.")
    return module


def available() -> bool:
    """Whether the native module is there and switched on."""
    return _load()[0] is not None


def isa() -> str:
    """Name of the instruction set in use, or 'torch' when the references run."""
    module, _ = _load()
    return str(module.isa()) if module is not None else "torch"


def usable(*tensors: "Tensor") -> bool:
    """Whether the native kernels can take these tensors: module there, all on the CPU, in float32 or, indices, int64.

    Which are the indices only the caller knows: it has refused an index that is a float, and the reverse.
    """
    import torch

    kinds = (torch.float32, torch.int64)
    # `is_cpu` and not `device`: a training step asks some hundred times.
    return available() and all(t.is_cpu and t.dtype in kinds for t in tensors)


def at_once(tensor: "Tensor") -> bool:
    """Whether a kernel may be called without torch's dispatcher, which takes longer than a small batch.

    Not where somebody traces or transforms the program (compile, fake tensors, vmap).
    """
    import torch

    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )


def worker(kind: str) -> Any:
    """Give this thread's own instance of a class of the native module: it keeps its workspaces between calls."""
    workers: dict[str, Any] = _workers.__dict__
    if kind not in workers:
        workers[kind] = getattr(core(), kind)()
    return workers[kind]


_workers = threading.local()


def prefer_large_pages(tensor: "Tensor") -> "Tensor":
    """Have a large tensor whose contents do not matter lie in pages of 2 MiB, where that can be, and return it.

    Random reads are then up to a quarter faster. Small tensors stay: they would share a page with others.
    """
    size = tensor.numel() * tensor.element_size()
    if size >= 1 << 22 and tensor.is_cpu and available():
        core().advise_huge_pages(tensor.data_ptr(), size)
    return tensor
