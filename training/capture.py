"""The capture in a model's file: the cameras it was trained from, without pixels."""

from typing import Any

import torch
from torch import Tensor

from polyfield.datasets.cameras import Cameras
from polyfield.datasets.scene import Scene
from polyfield.errors import InputError
from polyfield.fields.model import Model

__all__ = ["captured_cameras", "describe_capture"]


def describe_capture(scene: Scene) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Take from a scene what a model's file keeps of it.

    Returns:
        tensors: Poses and pinhole intrinsics of every view.
        facts: JSON: its name, fingerprint, the views' names and split, and the transform back to the data's frame.
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
    }
    return tensors, facts


def captured_cameras(model: Model) -> Cameras:
    """Cameras of the capture, as pinholes: enough to look from where the photographs were taken.

    Raises:
        InputError: The model has no capture.
    """
    if "world_from_camera" not in model.capture:
        raise InputError("This model has no capture, so there are no cameras to take; name a path.")
    parts = model.capture
    return Cameras.pinhole(
        parts["world_from_camera"], parts["focal"], parts["center"], parts["size"]
    )
