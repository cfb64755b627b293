"""Fitting the unsigned distance to a mesh: surfaces that end, that touch, that have no inside."""

from functools import partial
from pathlib import Path
from typing import Any

from polyfield.datasets.surface_samples import unsigned_samples
from polyfield.fields.model import Model
from polyfield.training.shape_fit import (
    ShapeBatches,
    ShapeSource,
    domain,
    load,
    measure_distances,
    protocol,
)

__all__ = ["MODEL", "batches", "domain", "load", "measure", "protocol"]

MODEL = "udf"
"""Kind of the models."""


def batches(shape: ShapeSource) -> ShapeBatches:
    """Make what trains the field: points on the surface, near it and anywhere, as 4 : 3 : 1."""
    return ShapeBatches(partial(unsigned_samples, shape.distance))


def measure(model: Model, shape: ShapeSource, pictures: Path | None) -> dict[str, Any]:
    """Compare the field with the mesh: see `measure_distances`. There are no pictures."""
    del pictures
    return measure_distances(model, shape)
