"""Asking unsigned distances, whatever gives them: our fields, foreign networks, any function of points."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from polyfield.errors import DataError, ShapeError

__all__ = ["Distance", "DistanceQueries"]

Distance = Callable[[Float[Tensor, "N 3"]], Tensor | tuple[Tensor, Tensor]]
"""From points to distances [N] or [N, 1], or to distances and their gradients [N, 3]."""

_CHUNK = 150_000  # points that are asked at a time
_STEP = 0.02  # of differences in place of a gradient, in cells


class DistanceQueries:
    """An unsigned distance in a cube, in units of cells of a lattice that fills it.

    Where it gives no gradient, that comes by differentiation, and where it is not made of torch's operations, by
    central differences.

    Args:
        distance: Of points in the data's units, asked in float32, on the CPU.
        low: Lowest corner of the cube.
        cell: Side of a cell, in the data's units.

    Attributes:
        count: Points that were asked so far.
    """

    def __init__(self, distance: Distance, low: Float64[Tensor, "3"], cell: float) -> None:
        self._distance, self._low, self._cell = distance, low.double(), cell
        self.count = 0

    def distances(self, places: Float64[Tensor, "N 3"]) -> Float64[Tensor, " N"]:
        """Give distances, in cells, at places told in cells from the cube's lowest corner.

        Raises:
            ShapeError: The function gives something of another shape.
            DataError: It gives NaN or infinity.
        """
        with torch.no_grad():
            parts = [self._asked(some)[0] for some in places.split(_CHUNK)]
        return torch.cat(parts) if parts else places.new_empty(0)

    def gradients(
        self, places: Float64[Tensor, "N 3"]
    ) -> tuple[Float64[Tensor, " N"], Float64[Tensor, "N 3"]]:
        """Give distances and the unit vectors in which they grow, 0 where they do not.

        Raises:
            ShapeError, DataError: As `distances`.
        """
        parts = [self._with_gradient(some) for some in places.split(_CHUNK)]
        if not parts:
            return places.new_empty(0), places.new_empty(0, 3)
        distances, slopes = (torch.cat(part) for part in zip(*parts, strict=True))
        return distances, torch.nn.functional.normalize(slopes, dim=1, eps=1e-12)

    def _with_gradient(self, places: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            points = self._points(places).requires_grad_()
            distance, slope = self._checked(self._distance(points), len(places))
            if slope is None and distance.requires_grad:
                (slope,) = torch.autograd.grad(distance.sum(), points)
        self.count += len(places)
        if slope is None:
            slope = self._differences(places)
        if not bool(slope.isfinite().all()):
            raise DataError(
                "The distance's gradient must be finite, but is NaN or infinite somewhere."
            )
        return distance.detach().double() / self._cell, slope.detach().double()

    def _differences(self, places: Tensor) -> Tensor:
        steps = _STEP * torch.eye(3, dtype=torch.float64)
        ahead = torch.stack([self.distances(places + step) for step in steps], 1)
        return ahead - torch.stack([self.distances(places - step) for step in steps], 1)

    def _asked(self, places: Tensor) -> tuple[Tensor, Tensor | None]:
        found = self._checked(self._distance(self._points(places)), len(places))
        self.count += len(places)
        return found[0].detach().double() / self._cell, found[1]

    def _points(self, places: Tensor) -> Tensor:
        return (self._low + places * self._cell).float()

    def _checked(
        self, given: Tensor | tuple[Tensor, Tensor], count: int
    ) -> tuple[Tensor, Tensor | None]:
        distance, slope = given if isinstance(given, tuple) else (given, None)
        if not isinstance(distance, Tensor) or distance.shape not in ((count,), (count, 1)):
            shape = (
                list(distance.shape) if isinstance(distance, Tensor) else type(distance).__name__
            )
            raise ShapeError(
                f"A distance function must give [{count}] or [{count}, 1] for {count} points, but gave {shape}."
            )
        if slope is not None and slope.shape != (count, 3):
            raise ShapeError(
                f"A distance function's gradient must be [{count}, 3], but is {list(slope.shape)}."
            )
        distance = distance.reshape(count)
        if not bool(distance.isfinite().all()):
            bad = int((~distance.isfinite()).sum())
            raise DataError(
                f"A distance function must give finite numbers, but {bad} of {count} are NaN or infinite."
            )
        return distance, slope
