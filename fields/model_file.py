"""The field file: a model on the disk, alone enough for every command but resume."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polyfield import __version__
from polyfield.errors import ConfigError, DataError, InputError, RunError
from polyfield.fields import tensor_file
from polyfield.fields.model import Model, build_model

__all__ = ["load", "save"]

_KIND = "field"
_PARTS = ("renderer", "capture")
_MAX_SIDE = 65536


def save(model: Model, path: Path | str) -> None:
    """Write a model, whole or not at all.

    Raises:
        RunError: The disk is full, or a weight is not finite; the file that was there is as it was.
    """
    for name, value in model.module.state_dict().items():
        if not _finite(value):
            raise RunError(
                f"{Path(path).name} was not written: the weights {name!r} are not all finite."
            )
    tensors = {f"weights.{name}": value for name, value in model.module.state_dict().items()}
    tensors |= {f"renderer.{name}": value for name, value in model.renderer_state.items()}
    tensors |= {f"capture.{name}": value for name, value in model.capture.items()}
    note = {
        "kind": _KIND,
        "model": model.kind,
        "config": model.config,
        "background": list(model.background),
        "info": model.info,
        "version": __version__,
    }
    tensor_file.write(path, tensors, note)


def load(path: Path | str) -> Model:
    """Read a model from a field file, or from the run folder that holds one.

    Raises:
        InputError: There is no such file.
        DataError: The file is broken, a weight is not finite, or its tensors do not fit its config, which is found out
            before anything of the sizes that the config names is allocated.

    Example:
        >>> import polyfield
        >>> model = polyfield.load("runs/lego")  # doctest: +SKIP
    """
    path = Path(path)
    if path.is_dir():
        path = _inside(path)
    elif not path.exists():
        raise InputError(f"There is no run folder or field file {path}.")
    tensors, note = tensor_file.read(path, _KIND)
    weights = _under("weights", tensors)
    kind, config = note.get("model"), _object(note, "config", path)
    try:
        # First without memory: a config may ask for much more than the file holds.
        with torch.device("meta"):
            wanted = build_model(kind, config).module.state_dict()
        _check_weights(wanted, weights, path)
        model = build_model(kind, config)
    except ConfigError as error:
        raise DataError(f"{path} holds a field that this version cannot build: {error}") from None
    except (MemoryError, RuntimeError, OverflowError):
        raise DataError(f"{path} asks for a field that does not fit into memory.") from None
    model.module.load_state_dict(weights)
    model.renderer_state = _under("renderer", tensors)
    model.capture = _under("capture", tensors)
    strangers = [n for n in tensors if n.split(".", 1)[0] not in ("weights", *_PARTS)]
    if strangers:
        raise DataError(f"{path} holds a tensor {strangers[0]!r} that is no part of a field.")
    background = note.get("background")
    if (
        not isinstance(background, list)
        or len(background) != 3
        or not all(isinstance(v, int | float) and 0 <= v <= 1 for v in background)
    ):
        raise DataError(f"{path}: its background must be three numbers in [0, 1].")
    model.background = (float(background[0]), float(background[1]), float(background[2]))
    model.info = _object(note, "info", path)
    _check_capture(model, path)
    return model


def _inside(folder: Path) -> Path:
    """The field file of a run folder."""
    path = folder / "field.safetensors"
    if path.exists():
        return path
    if (folder / "config.json").exists():
        raise InputError(
            f"{folder} has no {path.name} yet: the run was stopped before its first save."
        )
    raise InputError(f"{folder} is not a run folder: it has no {path.name}.")


def _check_capture(model: Model, path: Path) -> None:
    """Refuse cameras that cannot be, and views that are not there."""
    for name, tensor in model.capture.items():
        if not _finite(tensor):
            raise DataError(f"{path}: the capture's {name} is not finite.")
    size = model.capture.get("size")
    if size is not None and not ((size >= 1) & (size <= _MAX_SIDE)).all():
        raise DataError(f"{path}: the capture's images must have sides of 1..{_MAX_SIDE} pixels.")
    split = model.info.get("split", {})
    views = 0 if size is None else len(size)
    if not isinstance(split, dict) or not all(
        isinstance(ids, list) and all(isinstance(i, int) and 0 <= i < views for i in ids)
        for ids in split.values()
    ):
        raise DataError(f"{path}: the capture's split must list views in 0..{views - 1}.")


def _object(note: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = note.get(key)
    if not isinstance(value, dict):
        raise DataError(f"{path} lacks {key!r}; it is not a field that this version wrote.")
    return value


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): value
        for name, value in tensors.items()
        if name.startswith(f"{prefix}.")
    }


def _check_weights(wanted: dict[str, Tensor], weights: dict[str, Tensor], path: Path) -> None:
    for name in wanted.keys() - weights.keys():
        raise DataError(f"{path} lacks the tensor {name!r} of its field.")
    for name, value in weights.items():
        if name not in wanted:
            raise DataError(f"{path} has a tensor {name!r} that its field does not know.")
        if value.shape != wanted[name].shape or value.dtype != wanted[name].dtype:
            raise DataError(
                f"{path}: {name!r} must be {wanted[name].dtype} of shape {tuple(wanted[name].shape)}, "
                f"but is {value.dtype} of {tuple(value.shape)}."
            )
        if not _finite(value):
            raise DataError(f"{path}: the weights {name!r} of its field are not all finite.")


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
