"""Which cells of a fine lattice an unsigned surface may pass, found from coarse to fine, and the samples they share.

Cells and samples are told by whole numbers; only those that are needed exist, sorted, and none twice. Axes: C cells,
S samples, 27 of each cell: its corners, the middles of its edges and faces, and its own.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from polyfield.meshing.unsigned_distance import DistanceQueries

__all__ = ["CellSamples", "cells_near", "keys_of", "numbers_of", "samples_of"]

_EIGHT = torch.cartesian_prod(*[torch.arange(2)] * 3)
_OFFSETS = torch.cartesian_prod(*[torch.arange(3)] * 3)


def keys_of(places: Int64[Tensor, "*N 3"], size: int) -> Int64[Tensor, "*N"]:
    """One number for each place of a lattice of so many places along each axis; rising along the last axis first."""
    x, y, z = places.unbind(-1)
    result: Tensor = (x * size + y) * size + z
    return result


def numbers_of(keys: Int64[Tensor, "*N"], known: Int64[Tensor, " K"]) -> Int64[Tensor, "*N"]:
    """Where keys stand among sorted ones; -1 for those that do not."""
    at = torch.searchsorted(known, keys).clamp(max=max(len(known) - 1, 0))
    if len(known) == 0:
        return torch.full_like(keys, -1)
    return torch.where(known[at] == keys, at, -1)


def cells_near(queries: DistanceQueries, depth: int, margin: float) -> Int64[Tensor, "C 3"]:
    """Find the cells of side 1, of 2^depth along each axis, that the surface may pass: all others are too far from it.

    Args:
        queries: The distance, in cells.
        depth: 0 or more.
        margin: How much too large distances may be, in cells.

    Returns:
        Lowest corners, in the order of their keys.
    """
    cells = torch.zeros(1, 3, dtype=torch.int64)
    for level in range(depth + 1):
        side = 1 << (depth - level)
        middles = (cells.double() + 0.5) * side
        near = queries.distances(middles) < 0.5 * math.sqrt(3.0) * side + margin
        cells = cells[near]
        if level < depth:
            cells = (2 * cells[:, None] + _EIGHT).reshape(-1, 3)
    return cells[keys_of(cells, 1 << depth).argsort()]


@dataclass(frozen=True)
class CellSamples:
    """Samples of cells, each of them once.

    Attributes:
        places: Where they are, in cells.
        of: The 27 samples of each cell, the one `dx dy dz` half cells from its corner as number (3 dx + dy) 3 + dz.
    """

    places: Float64[Tensor, "S 3"]
    of: Int64[Tensor, "C 27"]


def samples_of(cells: Int64[Tensor, "C 3"], depth: int) -> CellSamples:
    """Lay 3 x 3 x 3 samples over each cell; neighbours share those between them."""
    size = (2 << depth) + 1
    keys = keys_of(2 * cells[:, None] + _OFFSETS, size)
    known, of = torch.unique(keys, return_inverse=True)
    places = torch.stack([known // (size * size), known // size % size, known % size], 1)
    return CellSamples(0.5 * places.double(), of)
