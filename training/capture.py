"""The capture in a model's file: the cameras it was trained from, without pixels."""

from typing import Any

import torch
from torch import Tensor

from polyfield.datasets.cameras import Cameras
from polyfield.datasets.lenses import Lens
from polyfield.datasets.scene import Scene
from polyfield.errors import DataError, InputError
from polyfield.fields.model import Model

__all__ = ["captured_cameras", "captured_views", "describe_capture"]


def describe_capture(scene: Scene) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Take from a scene what a model's file keeps of it.

    Returns:
        tensors: Poses and intrinsics of every view, and the transform back to the data's frame.
        facts: JSON: its name, fingerprint, the views' names, lenses and split.
    """
    cameras = scene.cameras
    tensors = {
        "world_from_camera": cameras.world_from_camera,
        "focal": cameras.focal,
        "center": cameras.center,
        "size": cameras.size,
        "world_from_data": torch.as_tensor(scene.world_from_data),
    }
    facts = {
        "scene": scene.name,
        "fingerprint": scene.fingerprint,
        "names": list(scene.names),
        "split": {name: list(ids) for name, ids in scene.split.items()},
        "lenses": [[lens.model, list(lens.coefficients)] for lens in cameras.lenses],
    }
    return tensors, facts


def captured_cameras(model: Model) -> Cameras:
    """Give the cameras that a model was trained from.

    Raises:
        InputError: The model has no capture.
        DataError: Its capture is broken.
    """
    parts = model.capture
    if "world_from_camera" not in parts:
        raise InputError("This model has no capture, so there are no cameras to start a path from.")
    try:
        return Cameras(
            parts["world_from_camera"],
            parts["focal"],
            parts["center"],
            parts["size"],
            tuple(Lens(name, tuple(values)) for name, values in model.info["lenses"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"The capture in this model's file is broken ({error}).") from None


def captured_views(model: Model, split: str) -> list[int]:
    """Number the views of a split of a model's capture: none where it has no such split, or no capture."""
    return list(model.info.get("split", {}).get(split) or ()) if model.capture else []
