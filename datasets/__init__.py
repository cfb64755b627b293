"""Cameras, readers of posed images, images and masks, the built-in scene."""

from typing import TYPE_CHECKING, Any

if not __name__.startswith("polyfield."):
    raise ImportError("import polyfield.datasets, not datasets")

if TYPE_CHECKING:
    from polyfield.datasets.cameras import Cameras
    from polyfield.datasets.images import Images
    from polyfield.datasets.load import load_scene
    from polyfield.datasets.scene import Scene

__all__ = ["Cameras", "Images", "Scene", "load_scene"]

_HOME = {"Cameras": "cameras", "Images": "images", "Scene": "scene", "load_scene": "load"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"polyfield.datasets.{_HOME[name]}"), name)
    raise AttributeError(f"module 'polyfield.datasets' has no attribute {name!r}")
