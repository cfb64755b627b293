"""The point of a cell that fits tangent planes best: where dual contouring puts the cell's vertex.

Of n planes with unit normals g_i through feet q_i it is the point nearest to an origin among those that minimise the
sum of (g_i . (x - q_i))^2 along the directions that the planes tell: those whose singular value is not small beside the
largest. One direction: a smooth surface; two: a crease; three: a corner.

See: Ju et al. (2002), "Dual contouring of Hermite data"; Zhang et al. (2023), "Surface extraction from neural unsigned
distance fields".
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float64, Int64, UInt8
from torch import Tensor

from polyfield import native

__all__ = ["FittedPoints", "Planes", "fit_planes", "fit_planes_reference"]

_KEEP = 0.08  # of the largest singular value
_BEYOND = (0.15, 1.0, 1.0)  # how far outside its cell a point may lie, by rank, in cells
_REACHES = (float("inf"), 0.0, 0.1, 0.25)  # of feet around their cell, tried in turn
_FEWEST = 3


class Planes(NamedTuple):
    """Tangent planes, S of them, and which ones belong to each of C cells of side 1."""

    feet: Float64[Tensor, "S 3"]
    normals: Float64[Tensor, "S 3"]
    used: Bool[Tensor, " S"]
    of: Int64[Tensor, "C K"]


class FittedPoints(NamedTuple):
    """What was found in each of C cells.

    Attributes:
        points: Where the planes are best fitted; the origin where none of the tries gave a point near the cell.
        ranks: How many directions the planes tell; 0: none fitted.
        directions: The normal of a smooth surface, the line of a crease, else 0.
    """

    points: Float64[Tensor, "C 3"]
    ranks: UInt8[Tensor, " C"]
    directions: Float64[Tensor, "C 3"]


def fit_planes(
    planes: Planes, low: Float64[Tensor, "C 3"], origins: Float64[Tensor, "C 3"]
) -> FittedPoints:
    """Fit the planes of each cell.

    A point farther outside its cell than its rank allows is not taken: then those planes are tried whose feet lie in
    the cell, and after that those a tenth and a quarter of a cell around it.

    Args:
        planes: All, in cells.
        low: Lowest corners of the cells.
        origins: Points that are as good as any as long as the planes do not say.
    """
    if not native.available():
        return fit_planes_reference(planes, low, origins)
    feet, normals, low, origins = (
        t.contiguous() for t in (planes.feet, planes.normals, low, origins)
    )
    of, used, count = planes.of.contiguous(), planes.used.to(torch.uint8).contiguous(), len(low)
    found = FittedPoints(
        torch.empty_like(low), torch.empty(count, dtype=torch.uint8), torch.empty_like(low)
    )
    native.core().plane_fit(
        *(feet.data_ptr(), normals.data_ptr(), used.data_ptr(), of.data_ptr(), of.shape[1]),
        *(low.data_ptr(), origins.data_ptr(), count, 1.0, _KEEP, list(_BEYOND)),
        *(tensor.data_ptr() for tensor in found),
    )
    return found


def fit_planes_reference(planes: Planes, low: Tensor, origins: Tensor) -> FittedPoints:
    """Fit by the singular values of the planes' own matrix."""
    used = planes.used[planes.of]  # the others may be NaN
    feet = torch.where(used[..., None], planes.feet[planes.of], origins[:, None])
    normals = torch.where(used[..., None], planes.normals[planes.of], 0.0)
    outside = (torch.maximum(low[:, None] - feet, feet - low[:, None] - 1.0)).amax(2).clamp(min=0)
    points, ranks = origins.clone(), torch.zeros(len(low), dtype=torch.uint8)
    directions = torch.zeros_like(low)
    for reach in _REACHES:
        there = used & (outside <= reach + 1e-4)
        matrix = normals * there[..., None]
        right = (matrix * (feet - origins[:, None])).sum(2)
        _, values, rows = torch.linalg.svd(matrix, full_matrices=False)
        kept = values > _KEEP * values[:, :1]
        inverse = torch.where(kept, 1.0 / values.clamp(min=1e-300), 0.0).square()
        along = (rows @ (matrix.mT @ right[..., None])[..., 0][..., None])[..., 0]
        at = origins + (rows.mT @ (inverse * along)[..., None])[..., 0]
        rank = kept.sum(1)
        allowed = torch.tensor((0.0, *_BEYOND), dtype=low.dtype)[rank]
        far = torch.maximum(low - at, at - low - 1.0).amax(1).clamp(min=0)
        new = (ranks == 0) & (there.sum(1) >= _FEWEST) & (far <= allowed)
        line = torch.where((rank == 1)[:, None], rows[:, 0], rows[:, 2])
        points[new], ranks[new] = at[new], rank[new].to(torch.uint8)
        directions[new] = torch.where((rank < 3)[:, None], line, 0.0)[new]
    return FittedPoints(points, ranks, directions)
