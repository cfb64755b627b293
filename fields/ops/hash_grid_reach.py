"""Which entries of a multiresolution grid are read from some cells of space, and which are never asked."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from polyfield.errors import ShapeError
from polyfield.fields.ops.hash_grid_geometry import GridGeometry, Level
from polyfield.fields.ops.hash_grid_reference import hash_grid_entries

__all__ = ["entries_read"]

_CHUNK = 1 << 20  # vertices looked at at a time


def entries_read(geometry: GridGeometry, cells: Bool[Tensor, "..."]) -> Bool[Tensor, " E"]:
    """Find the entries that points in some cells of [0, 1]^D may read.

    A cell reads the vertices within it and those one step around it. A level's vertices are gone through layer by
    layer, those near no such cell left out, until each of its entries is known to be read: a hashed level whose
    vertices outnumber its entries many times is soon done.

    Args:
        geometry: The grid.
        cells: For each cell of a lattice over [0, 1]^D, the first axis first, whether there may be points in it.

    Returns:
        For each row of the table whether it may be read. None that is read is missing; where a border between cells
        falls onto a vertex, its neighbours count too.

    Raises:
        ShapeError: The cells do not have the grid's number of axes.

    Example:
        >>> line = GridGeometry(dim=2, levels=1, base=4, finest=4)
        >>> entries_read(line, torch.tensor([[True, False], [False, False]])).nonzero()[:, 0].tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    """
    if cells.ndim != geometry.dim:
        raise ShapeError(
            f"entries_read: cells must have {geometry.dim} axes as the grid has, but have {cells.ndim}."
        )
    read = torch.zeros(geometry.entries, dtype=torch.bool)
    for level in geometry.levels_table:
        own = read[level.offset : level.offset + level.entries]
        for vertices in _vertices(level, cells):
            own[hash_grid_entries(vertices, level)] = True
            if own.all():
                break
    return read


def _vertices(level: Level, cells: Tensor) -> Iterator[Int[Tensor, "M D"]]:
    """The vertices that points of the cells read, some at a time."""
    *others, last = (_readers(level, count) for count in cells.shape)
    layers = torch.stack(last, 1)
    for low, high in layers.unique(dim=0).tolist():
        near = cells[..., low : high + 1].any(-1)
        if not near.any():
            continue
        (at,) = ((layers[:, 0] == low) & (layers[:, 1] == high)).nonzero(as_tuple=True)
        first, *rest = others
        # Rows of vertices along the first axis, as many as the rest of a layer allows.
        rows = max(1, _CHUNK // math.prod((len(lows) for lows, _ in rest), start=1))
        for begin in range(0, len(first[0]), rows):
            some = tuple(part[begin : begin + rows] for part in first)
            flat = near
            for axis, (lows, highs) in enumerate((some, *rest)):
                flat = _any_between(flat, axis, lows, highs)
            found = flat.nonzero()
            if not len(found):
                continue
            found[:, 0] += begin
            for layer in at.tolist():
                yield torch.cat([found, found.new_full((len(found), 1), layer)], 1)


def _readers(level: Level, cells: int) -> tuple[Tensor, Tensor]:
    """For each vertex along an axis, the first and the last of so many cells from which it is read."""
    # The last vertex is the upper one of the lattice's cell in which 1 lies. Coordinates are rounded to float32 on
    # the way to the lattice, so a point may land in the next one.
    slack = (level.scale + 1.0) * 2.0**-21
    count = math.floor(level.scale + level.shift + slack) + 2
    vertex = torch.arange(count, dtype=torch.float64) - level.shift
    low = (vertex - 1.0 - slack) * (cells / level.scale) if level.scale else vertex * 0.0
    high = (vertex + 1.0 + slack) * (cells / level.scale) if level.scale else vertex * 0.0 + cells
    return low.floor().clamp(0, cells - 1).long(), high.floor().clamp(0, cells - 1).long()


def _any_between(flags: Tensor, axis: int, lows: Tensor, highs: Tensor) -> Tensor:
    """For each pair of places along an axis, whether there is a flag from the one to the other."""
    sums = flags.long().cumsum(axis)
    sums = torch.cat([torch.zeros_like(sums.narrow(axis, 0, 1)), sums], axis)
    return sums.index_select(axis, highs + 1) > sums.index_select(axis, lows)
