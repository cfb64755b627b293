"""Fitting which points lie inside a mesh: 1 inside, 0 outside."""

from functools import partial
from pathlib import Path
from typing import Any

from polyfield.datasets.surface_samples import occupancy_samples
from polyfield.fields.model import Model
from polyfield.training.shape_fit import (
    ShapeBatches,
    ShapeSource,
    domain,
    load,
    measure_shape,
    protocol,
)

__all__ = ["MODEL", "batches", "domain", "load", "measure", "protocol"]

MODEL = "occupancy"
"""Kind of the models."""


def batches(shape: ShapeSource) -> ShapeBatches:
    """Make what trains the field: points near the surface and anywhere, as 7 : 1."""
    return ShapeBatches(partial(occupancy_samples, shape.distance))


def measure(model: Model, shape: ShapeSource, pictures: Path | None) -> dict[str, Any]:
    """Compare the field with the mesh: see `measure_shape`. There are no pictures."""
    del pictures
    return measure_shape(model, shape, level=0.5, sign=-1.0)
