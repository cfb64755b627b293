"""Fitting fields to a mesh: what signed distances and occupancy have in common."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from polyfield.config import from_json, to_json
from polyfield.datasets.fingerprint import file_fingerprint
from polyfield.datasets.mesh import Mesh, Placement
from polyfield.datasets.mesh_distance import MeshDistance
from polyfield.datasets.mesh_file import read_mesh
from polyfield.datasets.shape_metrics import inside_near, inside_uniform, iou, normal_error
from polyfield.datasets.surface_samples import (
    ShapeSamples,
    moved_within,
    outward,
    surface_points,
)
from polyfield.errors import InputError
from polyfield.fields.model import Model
from polyfield.fields.signal import Solid
from polyfield.training.shape_mesh import measure_mesh

__all__ = [
    "ShapeBatches",
    "ShapeSource",
    "domain",
    "load",
    "measure_distances",
    "measure_shape",
    "protocol",
]

_UNIFORM, _NEAR, _NORMALS = 1 << 22, 1 << 20, 1 << 17  # points that are compared
_CHUNK = 1 << 18  # points asked of a field at once
_REACH = 0.02  # of the surface, of those near it
_MOST_POINTS = 1 << 19  # that parts are placed by
_CLOSE = 1e-3  # added to distances whose inverse is taken, or parts would be placed at the few that are all but 0
_COMPARED_SEED = 20
_POOL = 1 << 21  # points that are measured once, and then drawn from
_POOLS, _POOL_SEED = 8, 21
_SEEN = 8  # times that a point was drawn, in the mean, before there is another pool


@dataclass(frozen=True)
class ShapeSource:
    """A mesh as something to fit, in the ball of radius 0.99 around the origin.

    Attributes:
        name: Of the file.
        distance: To the mesh.
        placement: From the file's coordinates to these.
        fingerprint: Of the file.
    """

    name: str
    distance: MeshDistance
    placement: Placement
    fingerprint: str


def load(file: Path | str) -> ShapeSource:
    """Read a mesh.

    Raises:
        DataError: It cannot be read, or has no faces.
    """
    file = Path(file)
    mesh, placement = read_mesh(file).placed_within()
    return ShapeSource(file.name, MeshDistance(mesh), placement, file_fingerprint(file))


def domain(shape: ShapeSource) -> dict[str, Any]:
    """Describe what the field is defined on."""
    x, y, z = shape.placement.center
    return to_json(Solid((x, y, z), shape.placement.scale))  # type: ignore[no-any-return]


def protocol(shape: ShapeSource) -> dict[str, Any]:
    """Say under which conditions was measured."""
    return {
        "radius": 0.99,
        "uniform_points": _UNIFORM,
        "near_points": _NEAR,
        "reach": _REACH,
        "watertight": shape.distance.mesh.edges.watertight,
    }


class ShapeBatches:
    """Batches out of pools of points around a surface: the longer a run is, the more of them.

    Measuring a point costs about as much as learning from it, so that it is learnt from more than once; a field that
    sees the same million a hundred times, though, learns them by heart.

    Args:
        measured: Draws so many points and measures them.
    """

    def __init__(self, measured: Callable[[int, Generator], ShapeSamples]) -> None:
        self._measured = measured
        self._pools: list[ShapeSamples] = []
        self._pool(0)

    def next(self, step: int, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Give a stretch of any of the pools that there are at this step."""
        count = min(count, len(self._pools[0]))
        there = min(_POOLS, 1 + step * count // (_SEEN * _POOL))
        pool = self._pool(int(torch.randint(there, (), generator=generator)))
        points, values = pool.batch(count, generator)
        return _unit(points), values[:, None]

    def _pool(self, number: int) -> ShapeSamples:
        """Make the pools up to one, each by its own chance, so that a run that goes on has the same."""
        for k in range(len(self._pools), number + 1):
            self._pools.append(self._measured(_POOL, Generator().manual_seed(_POOL_SEED + k)))
        return self._pools[number]

    def weighted(self) -> tuple[Float[Tensor, "M 3"], Float[Tensor, " M"], Float[Tensor, "3"]]:
        """Give points, those near the surface counting most."""
        first = self._pools[0]
        weights = 1.0 / (first.values[:_MOST_POINTS].abs() + _CLOSE)
        return _unit(first.points[:_MOST_POINTS]), weights, torch.ones(3)


def measure_shape(model: Model, shape: ShapeSource, level: float, sign: float) -> dict[str, Any]:
    """Compare where a field and a mesh are inside, and the directions in which they grow outwards.

    Args:
        model: Of which values.
        shape: The truth; it is compared where the mesh that the field learnt was placed.
        level: Of the surface.
        sign: 1 where values fall inwards, as distances do, -1 where they rise.

    Returns:
        "iou" of 2^22 points of the cube, "iou_near" of 2^20 points within 0.02 of the surface, and "normal_error", the
        mean angle in degrees between the field's gradient and the faces' normals, turned outwards, on 2^17 points of
        the surface. And what `measure_mesh` says of the field's mesh.

    Raises:
        InputError: The mesh is another than the field learnt, and leaves the cube that the field is defined on.
    """
    distance = _placed_as_learnt(model, shape).distance
    generator = Generator().manual_seed(_COMPARED_SEED)

    def outside(points: Tensor) -> Tensor:
        values: Tensor = sign * (model.module(_unit(points))[:, 0] - level)
        return values

    def slope(points: Tensor) -> Tensor:
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(outside(points).sum(), points)
        return gradient

    return {
        "iou": iou(outside, inside_uniform(distance, generator, _UNIFORM)),
        "iou_near": iou(outside, inside_near(distance, generator, _NEAR, _REACH)),
        "normal_error": normal_error(
            slope, outward(surface_points(distance.mesh, _NORMALS, generator), distance)
        ),
        **measure_mesh(model, distance, level),
    }


def measure_distances(model: Model, shape: ShapeSource) -> dict[str, Any]:
    """Compare an unsigned distance with that to a mesh.

    Args:
        model: Of kind "udf".
        shape: As of `measure_shape`.

    Returns:
        Mean sizes of errors, in units of the cube of side 2: "error_on" on the surface, "error_near" of 2^20 points
        within 0.02 of it, "error" of 2^22 points of the cube. And what `measure_mesh` says of the field's mesh.

    Raises:
        InputError: As of `measure_shape`.
    """
    distance = _placed_as_learnt(model, shape).distance
    generator = Generator().manual_seed(_COMPARED_SEED)

    def error(points: Tensor) -> float:
        total = 0.0
        for some in points.split(_CHUNK):
            with torch.no_grad():
                values = model.module(_unit(some))[:, 0]
            total += float((values - distance.unsigned(some).distance).abs().double().sum())
        return total / len(points)

    on = surface_points(distance.mesh, _NEAR, generator).positions
    return {
        "error_on": error(on),
        "error_near": error(moved_within(on, _REACH, generator)),
        "error": error(2 * torch.rand(_UNIFORM, 3, generator=generator) - 1),
        **measure_mesh(model, distance, None),
    }


def _placed_as_learnt(model: Model, shape: ShapeSource) -> ShapeSource:
    """Move a mesh, be it another one, to where the model has its own."""
    solid = from_json(Solid, model.config["domain"], "domain")
    placement = Placement(solid.center, solid.scale)
    if placement == shape.placement:
        return shape
    mesh = shape.distance.mesh
    vertices = placement(shape.placement.back(mesh.vertices))
    reach = float(vertices.abs().max())
    if reach > 1.0:
        x, y, z = solid.center
        raise InputError(
            f"{shape.name} leaves the cube that the field is defined on: from ({x:.4g}, {y:.4g}, {z:.4g}) that is "
            f"{1 / solid.scale:.4g} to each side, but the mesh reaches {reach / solid.scale:.4g}. Compare a mesh in "
            "the coordinates, and of the size, of the one that was fitted."
        )
    moved = Mesh(vertices, mesh.faces, mesh.notes)
    return replace(shape, distance=MeshDistance(moved), placement=placement)


def _unit(points: Tensor) -> Tensor:
    return (points + 1.0) / 2.0
