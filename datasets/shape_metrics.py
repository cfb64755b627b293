"""How well a field fits a shape: agreement of insides, and the angle between its normals and the true ones.

Fields come as plain functions of points, so that anything can be measured. Axes: N points.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32
from torch import Generator, Tensor

from polyfield.datasets.mesh_distance import MeshDistance
from polyfield.datasets.surface_samples import SurfacePoints, moved_within, surface_points
from polyfield.errors import InputError, ShapeError

__all__ = ["InsideTruth", "inside_near", "inside_uniform", "iou", "normal_error"]

_CHUNK = 1 << 18  # points asked of a field at once


@dataclass(frozen=True)
class InsideTruth:
    """Points of which is known whether they lie inside a shape."""

    points: Float32[Tensor, "N 3"]
    inside: Bool[Tensor, " N"]


def inside_uniform(
    distance: MeshDistance, generator: Generator, count: int = 1 << 22
) -> InsideTruth:
    """Draw points evenly from [-1, 1]^3 and find out which lie inside."""
    points = 2 * torch.rand(count, 3, generator=generator) - 1
    return InsideTruth(points, distance.signed(points) < 0)


def inside_near(
    distance: MeshDistance, generator: Generator, count: int = 1 << 20, reach: float = 0.02
) -> InsideTruth:
    """Draw points at most `reach` from the surface and find out which lie inside: where fields differ.

    Points of the surface are moved by a vector drawn evenly from the ball of this radius.
    """
    points = surface_points(distance.mesh, count, generator).positions
    points = moved_within(points, reach, generator)
    return InsideTruth(points, distance.signed(points) < 0)


def iou(
    distance: Callable[[Float32[Tensor, "N 3"]], Float[Tensor, " N"]], truth: InsideTruth
) -> float:
    """Measure how far a field's inside agrees with the true one: points inside both, over points inside either.

    Args:
        distance: Gives values that are negative inside; a NaN counts as outside.
        truth: Points and the answer.

    Returns:
        In [0, 1]; 1 where nothing is inside either.

    Raises:
        ShapeError: The field does not give one value a point.

    Example:
        >>> points = torch.tensor([[0.0, 0, 0], [0.3, 0, 0], [0.9, 0, 0]])
        >>> truth = InsideTruth(points, torch.tensor([True, True, False]))
        >>> iou(lambda points: points.norm(dim=1) - 0.2, truth)
        0.5
    """
    both = either = 0
    for points, inside in zip(truth.points.split(_CHUNK), truth.inside.split(_CHUNK), strict=True):
        with torch.no_grad():
            values = distance(points)
        if values.shape != inside.shape:
            raise ShapeError(
                f"iou: the field must give one value a point, [{len(points)}], but gave {list(values.shape)}."
            )
        claimed = values < 0
        both += int((claimed & inside).sum())
        either += int((claimed | inside).sum())
    return both / either if either else 1.0


def normal_error(
    gradient: Callable[[Float32[Tensor, "N 3"]], Float[Tensor, "N 3"]], surface: SurfacePoints
) -> float:
    """Measure the mean angle between a field's gradient and the true normal on the surface.

    Args:
        gradient: Of a field that grows outwards. Where it is 0 or not finite it has no direction: 90 degrees.
        surface: Points with normals that point outwards (`surface_points`, `outward`).

    Returns:
        Degrees, in [0, 180].

    Raises:
        ShapeError: The function does not give a vector a point.
        InputError: There are no points.
    """
    if len(surface.positions) == 0:
        raise InputError("normal_error needs surface points, but got none.")
    total = 0.0
    for points, normals in zip(
        surface.positions.split(_CHUNK), surface.normals.split(_CHUNK), strict=True
    ):
        slopes = gradient(points).detach()
        if slopes.shape != normals.shape:
            raise ShapeError(
                f"normal_error: gradients must be {list(normals.shape)}, but are {list(slopes.shape)}."
            )
        slopes = slopes.double()
        known = slopes.isfinite().all(1) & (slopes != 0).any(1)
        slopes = torch.nn.functional.normalize(slopes[known], dim=1, eps=1e-300)
        # atan2 of both products: the arc cosine alone would lose small angles.
        true = normals[known].double()
        angles = torch.atan2(
            torch.linalg.norm(torch.linalg.cross(slopes, true), dim=1), (slopes * true).sum(1)
        )
        total += float(angles.rad2deg().sum()) + 90.0 * int((~known).sum())
    return total / len(surface.positions)
