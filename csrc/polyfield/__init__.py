"""Polyfield: train neural fields from posed images, convert, mesh and view them, on any machine.

The functions here are loaded when first touched, so that `import polyfield` costs nothing:

    run = polyfield.train("scenes/lego", out="runs/lego", budget=60)
    model = polyfield.load("runs/lego")
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_API = {
    "load": "polyfield.fields.model_file",
    "train": "polyfield.training.api",
    "fit": "polyfield.training.fit",
    "compare": "polyfield.training.compare",
    "convert": "polyfield.training.convert",
    "evaluate": "polyfield.training.api",
    "render": "polyfield.training.rendering",
    "extract_mesh": "polyfield.training.extraction",
    "load_scene": "polyfield.datasets",
}

__all__ = ["__version__", *_API]


def __getattr__(name: str) -> Any:
    if name in _API:
        return getattr(import_module(_API[name]), name)
    raise AttributeError(f"module 'polyfield' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
