"""The surface of a function of space: its values on a lattice, slab by slab, through marching cubes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from polyfield.datasets.images import free_memory
from polyfield.errors import InputError
from polyfield.meshing.marching_cubes import LatticeSurface, SlabMesher

__all__ = ["Lattice", "surface_in"]

_SLAB = 1 << 21  # points of the lattice that are in memory at a time
_CHUNK = 1 << 17  # points that a function is asked at a time
_FINEST = 4096

# What a vertex, and its two faces, take until the mesh is written: in the mesher, in the arrays made of it, and in the
# sorted edges of the report.
_BYTES_OF_VERTEX = 600


@dataclass(frozen=True)
class Lattice:
    """Points in a box, equally far apart along all axes.

    Attributes:
        low, high: Corners of the box. Where a side is no multiple of the step, the last points lie beyond it.
        resolution: Steps along the longest side.

    Raises:
        InputError: The box is empty or not finite, or the resolution is not in 2 to 4096.

    Example:
        >>> Lattice((0.0, 0.0, 0.0), (2.0, 1.0, 1.0), 4).shape
        (5, 3, 3)
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    resolution: int

    def __post_init__(self) -> None:
        pairs = list(zip(self.low, self.high, strict=True))
        if not all(math.isfinite(b - a) and a < b for a, b in pairs):
            raise InputError(
                f"A box needs low < high along each axis, in finite numbers, but goes from {self.low} to {self.high}."
            )
        if not 2 <= self.resolution <= _FINEST:
            raise InputError(
                f"The resolution must be a whole number from 2 to {_FINEST}, but is {self.resolution}."
            )

    @cached_property
    def step(self) -> float:
        """Distance between neighbours."""
        longest = max(b - a for a, b in zip(self.low, self.high, strict=True))
        return longest / self.resolution

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """How many points there are along each axis."""
        x, y, z = (
            # A side that is a multiple of the step but for rounding does not get another point.
            max(math.ceil((b - a) / self.step * (1 - 1e-9)), 1) + 1
            for a, b in zip(self.low, self.high, strict=True)
        )
        return x, y, z

    def coordinates(self, axis: int) -> Float64[Tensor, " N"]:
        """Where the points lie along an axis."""
        return self.low[axis] + self.step * torch.arange(self.shape[axis], dtype=torch.float64)

    def place(self, points: Float[Tensor, "N 3"]) -> Float64[Tensor, "N 3"]:
        """Take points from units of the lattice to where they lie in the box."""
        return torch.tensor(self.low, dtype=torch.float64) + self.step * points.double()


def surface_in(
    lattice: Lattice,
    values: Callable[[Float[Tensor, "N 3"]], Float[Tensor, " N"]],
    level: float,
    *,
    below: bool = False,
    wanted: Callable[[slice], Bool[Tensor, "L Y Z"]] | None = None,
    on_layers: Callable[[int, int], None] = lambda *_: None,
) -> tuple[LatticeSurface, int]:
    """Find where a function crosses a level.

    Args:
        lattice: Where it is looked at.
        values: Of the function, finite; asked for many points at a time, in float32.
        level, below: As `polyfield.meshing.marching_cubes` has them.
        wanted: Which points of some layers are worth asking; all others count as 0, which is not inside. None: all.
        on_layers: Told after each slab how many layers there are and how many there will be.

    Returns:
        The surface, in units of the lattice, and how many points were asked.

    Raises:
        DataError: A value is not finite.
        InputError: The surface needs more memory than there is.
    """
    count, rows, points = lattice.shape
    mesher = SlabMesher(rows, points, level, below=below)
    x, y, z = (lattice.coordinates(axis).float() for axis in range(3))
    layers, asked, free = max(_SLAB // (rows * points), 1), 0, free_memory()
    for first in range(0, count, layers):
        some = slice(first, min(first + layers, count))
        size = (some.stop - first, rows, points)
        slab = torch.zeros(size).flatten()
        ask = torch.ones(size, dtype=torch.bool) if wanted is None else wanted(some)
        ids = ask.flatten().nonzero()[:, 0]
        for part in ids.split(_CHUNK):
            i, rest = part // (rows * points), part % (rows * points)
            at = torch.stack([x[first + i], y[rest // points], z[rest % points]], 1)
            slab[part] = values(at).float()
        asked += len(ids)
        mesher.add(slab.view(size))
        _check_memory(mesher.vertex_count, some.stop / count, free, lattice.resolution)
        on_layers(some.stop, count)
    return mesher.surface(), asked


def _check_memory(vertices: int, done: float, free: int, resolution: int) -> None:
    """Refuse a surface before it has eaten what memory there is."""
    needed = vertices * _BYTES_OF_VERTEX
    if needed <= free:
        return
    fitting = _rounded(resolution * math.sqrt(done * free / needed))
    raise InputError(
        f"At a resolution of {resolution} this surface takes more than {needed / done / 1e9:.1f} GB of memory, but "
        f"{free / 1e9:.1f} GB are free; {fitting} would fit."
    )


def _rounded(resolution: float) -> int:
    """Down to a number that people would choose."""
    return max(16 * int(resolution / 16), 16)
