"""Triangle meshes: corners and faces, checked once, and what follows from them.

Axes: V vertices, F faces. Faces are seen from outside counter-clockwise.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Shaped, UInt64
from torch import Tensor

from polyfield.errors import DataError, ShapeError

__all__ = ["Mesh", "MeshEdges", "Placement", "clean_mesh"]

_MOST_FACES = (1 << 31) - 1  # the tree over them counts in 32 bits
_STRETCH = 1 << 18  # faces
_FARTHEST = 1e75  # from the origin: products of four lengths, as in a length of a cross product, stay finite


@dataclass(frozen=True)
class Placement:
    """Where a mesh was moved to: placed = (original - center) * scale.

    Attributes:
        center: What became the origin, in the original's units.
        scale: Placed units in one original unit, > 0.

    Example:
        >>> place = Placement((1.0, 0.0, 0.0), 2.0)
        >>> place.back(place(torch.tensor([[3.0, 1.0, 0.0]]))).tolist()
        [[3.0, 1.0, 0.0]]
    """

    center: tuple[float, float, float]
    scale: float

    def __call__(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Take original points to where the mesh was placed."""
        return (points - self._center(points)) * self.scale

    def back(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Take placed points back."""
        return points / self.scale + self._center(points)

    def _center(self, like: Tensor) -> Tensor:
        return torch.tensor(self.center, dtype=like.dtype, device=like.device)


@dataclass(frozen=True)
class MeshEdges:
    """How faces meet at edges.

    Attributes:
        boundary: Edges of one face only.
        nonmanifold: Edges of more than two faces.
        watertight: Each edge belongs to two faces, which run along it in opposite directions.
        closed: Each edge is run along as often one way as the other: the surface has no border, though parts of it may
            touch or cross. What is watertight is closed.
    """

    boundary: int
    nonmanifold: int
    watertight: bool
    closed: bool


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: Positions.
        faces: Three vertices each.
        notes: What was mended when it was made, one sentence each.

    Raises:
        ShapeError: Tensors of another shape or kind.
        DataError: No faces, faces of vertices that are not there, positions that are not finite, or no face with area.
    """

    vertices: Float64[Tensor, "V 3"]
    faces: Int64[Tensor, "F 3"]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, tensor, dtype in (
            ("vertices", self.vertices, torch.float64),
            ("faces", self.faces, torch.int64),
        ):
            if tensor.dim() != 2 or tensor.shape[1] != 3 or tensor.dtype != dtype:
                raise ShapeError(
                    f"Mesh: {name} must be [.., 3] of {dtype}, but is {list(tensor.shape)} of "
                    f"{tensor.dtype}."
                )
        _check(self.vertices, self.faces)
        if not bool((self.areas > 0).any()):
            raise DataError("A mesh must have a triangle with area, but all of its faces are flat.")

    @property
    def corners(self) -> Float64[Tensor, "F 3 3"]:
        """Positions of each face's three vertices."""
        return self.vertices[self.faces]

    @property
    def areas(self) -> Float64[Tensor, " F"]:
        """Area of each face."""
        x, y, z = _crossed(self.vertices, self.faces).unbind(1)
        return 0.5 * torch.hypot(torch.hypot(x, y), z)  # where squares would be too small

    @property
    def normals(self) -> Float64[Tensor, "F 3"]:
        """Unit normal of each face, outwards; 0 where it has no area."""
        return self.normals_of(slice(None))

    def normals_of(self, faces: Int64[Tensor, " N"] | slice) -> Float64[Tensor, "N 3"]:
        """Unit normals of some faces, by their numbers, as `normals` has them."""
        normals = _crossed(self.vertices, self.faces[faces])
        # Scaled first: a tiny face's product may be too small to be squared.
        normals = normals / normals.abs().amax(1, keepdim=True).clamp(min=1e-300)
        return torch.nn.functional.normalize(normals, dim=1, eps=1e-30)

    @property
    def box(self) -> tuple[Float64[Tensor, "3"], Float64[Tensor, "3"]]:
        """Low and high corner of the box around all vertices that a face has."""
        used = self.vertices[self.faces.unique()]
        return used.amin(0), used.amax(0)

    @cached_property
    def edges(self) -> MeshEdges:
        """How faces meet; vertices at one place count as one only if they were merged (`clean_mesh`)."""
        start, end = self.faces.reshape(-1), self.faces[:, [1, 2, 0]].reshape(-1)
        forward = torch.where(start < end, 1, -1).to(torch.int32)
        key = torch.minimum(start, end).mul_(len(self.vertices)).add_(end.maximum(start))
        key, order = torch.sort(key)
        forward = forward[order]
        del start, end, order  # millions of faces: each of these is as large as the mesh
        _, edge, count = torch.unique_consecutive(key, return_inverse=True, return_counts=True)
        balance = torch.zeros(len(count), dtype=torch.int32).index_add_(0, edge, forward)
        closed = not bool(balance.any())
        return MeshEdges(
            boundary=int((count == 1).sum()),
            nonmanifold=int((count > 2).sum()),
            watertight=closed and bool((count == 2).all()),
            closed=closed,
        )

    def placed(self, side: float = 1.8) -> tuple["Mesh", Placement]:
        """Center the box around the mesh at the origin and give its longest side this length.

        The default is the protocol for shapes: within [-1, 1]^3, with a margin of 0.1.
        """
        low, high = self.box
        return self._moved((low + high) / 2, side / float((high - low).max()))

    def placed_within(self, radius: float = 0.99) -> tuple["Mesh", Placement]:
        """Center the box around the mesh at the origin, its farthest vertex at this distance.

        The default is the protocol of NeuRBF's distance fields (Chen et al. 2023).
        """
        low, high = self.box
        center = (low + high) / 2
        reach = torch.linalg.norm(self.vertices[self.faces.unique()] - center, dim=1).max()
        return self._moved(center, radius / float(reach))

    def _moved(self, center: Tensor, scale: float) -> tuple["Mesh", Placement]:
        x, y, z = center.tolist()
        place = Placement((x, y, z), scale)
        return Mesh(place(self.vertices), self.faces, self.notes), place


def clean_mesh(vertices: Float[Tensor, "V 3"], faces: Int64[Tensor, "F 3"]) -> Mesh:
    """Make a mesh of what came from anywhere.

    Vertices at exactly one place become one, vertices without a face go, and so do faces without area and faces that
    are there twice, seen from the same side. What was done is in the mesh's `notes`.

    Raises:
        ShapeError, DataError: As `Mesh`.

    Example:
        >>> square = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]]).double()
        >>> mesh = clean_mesh(square, torch.tensor([[0, 1, 2], [3, 2, 4], [0, 3, 1]]))
        >>> mesh.faces.tolist(), mesh.notes
        ([[0, 1, 2], [0, 2, 3]], ('1 of 3 faces had no area and was dropped.',))
    """
    vertices = vertices.double()
    _check(vertices, faces)
    faces = _firsts(vertices)[faces]
    notes = list[str]()
    with_area = _crossed(vertices, faces).abs_().amax(1) > 0
    if not bool(with_area.any()):
        raise DataError("A mesh must have a triangle with area, but all of its faces are flat.")
    notes += _note(int((~with_area).sum()), len(faces), "had no area")
    kept = faces[with_area]
    once = _once(kept)
    notes += _note(len(kept) - len(once), len(faces), "was there twice", "were there twice")
    kept = kept[once]
    used = torch.zeros(len(vertices), dtype=torch.bool)
    used[kept] = True
    return Mesh(vertices[used], (used.cumsum(0) - 1)[kept], tuple(notes))


def _check(vertices: Tensor, faces: Tensor) -> None:
    if len(faces) == 0:
        raise DataError(
            f"A mesh must have faces, but this one has {len(vertices)} vertices and none; is it a point cloud?"
        )
    if len(faces) > _MOST_FACES:
        raise DataError(f"A mesh may have {_MOST_FACES:,} faces, but this one has {len(faces):,}.")
    low, high = int(faces.min()), int(faces.max())
    if low < 0 or high >= len(vertices):
        wrong = low if low < 0 else high
        raise DataError(
            f"A face names vertex {wrong}, but the mesh has vertices 0 to {len(vertices) - 1}."
        )
    broken = int((~vertices.isfinite()).any(1).sum())
    if broken:
        raise DataError(
            f"{broken} of {len(vertices)} vertices of the mesh {'is' if broken == 1 else 'are'} not finite."
        )
    if len(vertices) and float(vertices.abs().max()) > _FARTHEST:
        raise DataError(
            f"The mesh has coordinates beyond {_FARTHEST:g}, too large to be computed with; scale it down."
        )


def _note(count: int, of: int, one: str, more: str | None = None) -> Iterator[str]:
    if count == 1:
        yield f"1 of {of} faces {one} and was dropped."
    elif count > 1:
        yield f"{count} of {of} faces {more or one} and were dropped."


def _crossed(
    vertices: Float64[Tensor, "V 3"], faces: Int64[Tensor, "F 3"]
) -> Float64[Tensor, "F 3"]:
    """Product of two edges of each face."""
    result = vertices.new_empty(faces.shape)
    # In stretches: the corners of millions of faces take more memory than all the rest.
    for some, into in zip(faces.split(_STRETCH), result.split(_STRETCH), strict=True):
        a, b, c = vertices[some].unbind(1)
        torch.linalg.cross(b - a, c - a, out=into)
    return result


def _firsts(rows: Shaped[Tensor, "N 3"]) -> Int64[Tensor, " N"]:
    """Give for each row, of float64 or int64, the first one that is the same."""
    # One number stands for three: sorting by it is many times faster than sorting rows.
    mixed = np.zeros(len(rows), np.uint64)
    for axis in range(3):
        mixed = (mixed ^ _bits(rows, axis)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    order = np.argsort(mixed)
    differs = _steps(rows, order)
    mixed = mixed[order]
    if (differs & (mixed[1:] == mixed[:-1])).any():  # two rows, one number
        order = np.lexsort([_bits(rows, axis) for axis in range(3)])
        differs = _steps(rows, order)
    starts = np.concatenate([[0], np.flatnonzero(differs) + 1])
    first = np.minimum.reduceat(order, starts)
    result = np.empty(len(rows), np.int64)
    result[order] = np.repeat(first, np.diff(starts, append=len(rows)))
    return torch.from_numpy(result)


def _bits(rows: Tensor, axis: int) -> UInt64[np.ndarray, " N"]:
    """One column; + 0 makes 0 of -0, so that the same number has the same bits."""
    return (rows[:, axis] + 0).numpy().view(np.uint64)


def _steps(rows: Tensor, order: np.ndarray) -> np.ndarray:
    """Where a row in this order is not as the one before it."""
    differs = np.zeros(max(len(order) - 1, 0), bool)
    for axis in range(3):
        column = _bits(rows, axis)[order]
        differs |= column[1:] != column[:-1]
    return differs


def _once(faces: Int64[Tensor, "F 3"]) -> Int64[Tensor, " K"]:
    """Which faces to keep so that none is there twice: the first of each, in order."""
    turn = faces.argmin(1, keepdim=True)
    turned = faces.gather(1, (turn + torch.arange(3)) % 3)  # the lowest vertex first, same side
    first = _firsts(turned)
    return torch.nonzero(first == torch.arange(len(first)))[:, 0]
