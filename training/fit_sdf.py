"""Fitting the signed distance to a mesh, negative inside."""

from functools import partial
from pathlib import Path
from typing import Any

from polyfield.datasets.surface_samples import distance_samples
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

MODEL = "sdf"
"""Kind of the models."""


def batches(shape: ShapeSource) -> ShapeBatches:
    """Make what trains the field: points on the surface, near it and anywhere, as 4 : 3 : 1."""
    return ShapeBatches(partial(distance_samples, shape.distance))


def measure(model: Model, shape: ShapeSource, pictures: Path | None) -> dict[str, Any]:
    """Compare the field with the mesh: see `measure_shape`. There are no pictures."""
    del pictures
    return measure_shape(model, shape, level=0.0, sign=1.0)
