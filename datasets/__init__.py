"""Cameras, readers of posed images, images and masks, the built-in scene; meshes and distances to them."""

from typing import TYPE_CHECKING, Any

if not __name__.startswith("polyfield."):
    raise ImportError("import polyfield.datasets, not datasets")

if TYPE_CHECKING:
    from polyfield.datasets.cameras import Cameras
    from polyfield.datasets.images import Images
    from polyfield.datasets.load import load_scene
    from polyfield.datasets.mesh import Mesh
    from polyfield.datasets.mesh_distance import MeshDistance
    from polyfield.datasets.mesh_file import read_mesh
    from polyfield.datasets.scene import Scene

__all__ = ["Cameras", "Images", "Mesh", "MeshDistance", "Scene", "load_scene", "read_mesh"]

_HOME = {
    "Cameras": "cameras",
    "Images": "images",
    "Mesh": "mesh",
    "MeshDistance": "mesh_distance",
    "Scene": "scene",
    "load_scene": "load",
    "read_mesh": "mesh_file",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"polyfield.datasets.{_HOME[name]}"), name)
    raise AttributeError(f"module 'polyfield.datasets' has no attribute {name!r}")
