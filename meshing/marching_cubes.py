"""Marching cubes: the surface between the values above a level and those below, in an array or in slabs of one.

Every cell of the lattice is cut as the function in it that is linear along each axis: faces on which signs alternate by
the asymptotic decider, and pieces that only the values can tell apart by what is connected through the cell. So the
surface has no borders but at the lattice's, no edge has more than two triangles, and its topology is that of the
interpolated function.

See: Lorensen and Cline (1987), "Marching cubes"; Nielson and Hamann (1991), "The asymptotic decider"; Chernyaev (1995),
"Marching cubes 33".
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from polyfield import native
from polyfield.errors import DataError, ShapeError
from polyfield.meshing.marching_cubes_reference import marching_cubes_reference

__all__ = ["LatticeSurface", "SlabMesher", "marching_cubes"]


class LatticeSurface(NamedTuple):
    """A surface in a lattice.

    Attributes:
        vertices: In units of the lattice, whose first point is the origin.
        faces: Anticlockwise as seen from what is not inside.
    """

    vertices: Float32[Tensor, "V 3"]
    faces: Int64[Tensor, "F 3"]


def marching_cubes(
    values: Float[Tensor, "X Y Z"], level: float = 0.0, *, below: bool = False
) -> LatticeSurface:
    """Find the surface between what is inside and what is not.

    Args:
        values: At the points of a lattice, 2 or more along each side; finite. Taken as float32.
        level: Values above it are inside; equal ones are not.
        below: Values below it are inside instead, as of a signed distance.

    Returns:
        Vertices lie on the lattice's edges, a 1024th or more from their ends, so that no two coincide and no face is
        without area; where values alone tell how a cell is cut, some lie within it. None where all values are on one
        side.

    Raises:
        ShapeError: No such array.
        DataError: A value is not finite, or there would be 2^31 vertices.

    Example:
        >>> values = torch.zeros(3, 3, 3)
        >>> values[1, 1, 1] = 1.0
        >>> vertices, faces = marching_cubes(values, 0.5)
        >>> len(vertices), len(faces), vertices[0].tolist()
        (6, 8, [0.5, 1.0, 1.0])
    """
    if values.dim() != 3 or len(values) < 2:
        raise ShapeError(
            "marching_cubes: values must be [X, Y, Z], 2 points or more along each side, but are "
            f"{list(values.shape)}."
        )
    mesher = SlabMesher(values.shape[1], values.shape[2], level, below=below)
    mesher.add(values)
    return mesher.surface()


class SlabMesher:
    """Marching cubes over an array that is never there as a whole.

    Slabs are taken in order along the first axis. The surface has the same borders and topology as that of all of them
    put together, whatever their sizes, and no seams; only the order of its vertices depends on them.

    Args:
        rows, points: Points along the second and the third axis, 2 or more.
        level, below: As `marching_cubes` has them.

    Raises:
        ShapeError: Too few points.
    """

    def __init__(self, rows: int, points: int, level: float = 0.0, *, below: bool = False) -> None:
        if min(rows, points) < 2:
            raise ShapeError(
                f"marching_cubes: layers must have 2 points or more along each side, but have {rows} x {points}."
            )
        self._size, self._level, self._below = (rows, points), level, below
        self._kept = torch.empty(0, rows, points)  # layers that the next slab begins with
        self._native: Any = None
        if native.available():
            self._native = native.core().SlabMesher(rows, points, level, below)

    @property
    def vertex_count(self) -> int:
        """How many vertices there are so far; 0 where the reference does the work, all of it at the end."""
        return 0 if self._native is None else int(self._native.vertex_count)

    def add(self, slab: Float[Tensor, "L Y Z"]) -> None:
        """Take the next layers.

        Raises:
            ShapeError: Layers of another size, or no floats.
            DataError: A value is not finite, or there would be 2^31 vertices.
        """
        if slab.dim() != 3 or tuple(slab.shape[1:]) != self._size or not slab.is_floating_point():
            raise ShapeError(
                f"marching_cubes: a slab must be [layers, {self._size[0]}, {self._size[1]}] of floats, but is "
                f"{list(slab.shape)} of {slab.dtype}."
            )
        layers = slab.detach().to("cpu", torch.float32)
        layers = (torch.cat([self._kept, layers]) if len(self._kept) else layers).contiguous()
        if self._native is None:
            if not bool(layers.isfinite().all()):
                raise _not_finite()
            self._kept = layers
        elif len(layers) < 2:
            self._kept = layers.clone()
        else:
            try:
                taken = self._native.add(layers.data_ptr(), len(layers))
            except OverflowError as error:
                raise DataError(f"This surface has {error}. A coarser lattice would do.") from None
            if not taken:
                raise _not_finite()
            self._kept = layers[-1:].clone()

    def surface(self) -> LatticeSurface:
        """Give the surface of all layers so far."""
        if self._native is None:
            if len(self._kept) < 2:
                return LatticeSurface(torch.empty(0, 3), torch.empty(0, 3, dtype=torch.int64))
            return LatticeSurface(
                *marching_cubes_reference(self._kept, self._level, below=self._below)
            )
        found = LatticeSurface(
            torch.empty(self._native.vertex_count, 3),
            torch.empty(self._native.triangle_count, 3, dtype=torch.int64),
        )
        self._native.take(found.vertices.data_ptr(), found.faces.data_ptr())
        return found


def _not_finite() -> DataError:
    return DataError("Marching cubes needs finite values, but some are NaN or infinite.")
