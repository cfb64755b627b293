"""Which crossed edges of a cell belong to one sheet: where two sheets pass a cell, each gets a vertex of its own.

Crossed edges go on from cell to cell through the faces of the lattice. Two of a face's four edges crossed are one line
through it. All four crossed are two lines, which part or cross: those chords that lie on the surface tell.

Axes: N crossed edges, each with the four cells around it, in turn.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from polyfield.meshing.unsigned_distance import DistanceQueries

__all__ = ["Sheets", "planes_of_sheets", "sheets_among"]

_NEARER = 0.25  # what the distance to a foot counts beside the distance to its plane
_FEWEST = 3  # samples that a sheet needs, else it takes its cell's


class Sheets(NamedTuple):
    """Sheets in cells.

    Attributes:
        of: The sheet of each crossed edge in each of the four cells around it.
        cells: The cell of each sheet.
        middles: The mean of where its edges are crossed.
    """

    of: Int64[Tensor, "N 4"]
    cells: Int64[Tensor, " V"]
    middles: Float64[Tensor, "V 3"]


def sheets_among(
    cells: Int64[Tensor, "N 4"],
    axis: Int64[Tensor, " N"],
    points: Float64[Tensor, "N 3"],
    queries: DistanceQueries,
) -> Sheets:
    """Join crossed edges within cells.

    Args:
        cells: Around each edge.
        axis: Along which each runs.
        points: Where each is crossed, in cells.
        queries: The distance.
    """
    links = _links(cells, axis, points, queries)
    name = torch.arange(4 * len(cells))
    while True:  # every entry names the lowest one that is known to be of its sheet
        lowest = torch.minimum(name[links[:, 0]], name[links[:, 1]])
        new = name.scatter_reduce(0, links.T.flatten(), lowest.repeat(2), "amin")
        new = new[new]
        if torch.equal(new, name):
            break
        name = new
    of = torch.unique(name, return_inverse=True)[1]
    count = int(of.max()) + 1 if len(of) else 0
    cell = torch.empty(count, dtype=torch.int64)
    cell[of] = cells.flatten()
    sums = torch.zeros(count, 4, dtype=torch.float64)
    entries = torch.cat([points, torch.ones(len(points), 1, dtype=torch.float64)], 1)
    sums.index_add_(0, of, entries.repeat_interleave(4, 0))
    return Sheets(of.view(-1, 4), cell, sums[:, :3] / sums[:, 3:])


def _links(cells: Tensor, axis: Tensor, points: Tensor, queries: DistanceQueries) -> Tensor:
    """Pairs of entries of `cells` that are one sheet in one cell."""
    low = torch.minimum(cells, cells.roll(-1, 1))
    high = torch.maximum(cells, cells.roll(-1, 1))
    face = (low * (int(cells.max()) + 1 if len(cells) else 1) + high).flatten()
    # Along a face, edges of one direction before those of the other.
    order = (3 * face + axis.repeat_interleave(4)).argsort(stable=True)
    _, count = torch.unique_consecutive(face[order], return_counts=True)
    first = count.cumsum(0) - count
    both = torch.stack([torch.where(cells <= cells.roll(-1, 1), 0, 1)] * 2, -1)
    turn = torch.arange(4)
    own = 4 * torch.arange(len(cells))[:, None] + turn
    beside = 4 * torch.arange(len(cells))[:, None] + (turn + 1) % 4
    # Of each edge at each of its faces: its entry in the lower cell and in the higher one.
    entries = torch.where(both == 0, torch.stack([own, beside], -1), torch.stack([beside, own], -1))
    entries = entries.view(-1, 2)[order]
    parts = list[Tensor]()
    for many in (2, 3):
        for k in range(1, many):
            at = first[count == many]
            parts += [entries[at], entries[at + k]]
    at = first[count == 4]
    crossed, pairs = _ways(points.repeat_interleave(4, 0)[order], at, queries)
    for one, other in pairs:
        parts += [entries[at + one], entries[at + other]]
    parts += [entries[at[crossed]], entries[at[crossed] + 1]]
    one, other = torch.cat(parts[::2]), torch.cat(parts[1::2])
    return torch.cat([torch.stack([one[:, k], other[:, k]], 1) for k in range(2)])


def _ways(
    points: Tensor, at: Tensor, queries: DistanceQueries
) -> tuple[Bool[Tensor, " Q"], list[tuple[Tensor, Tensor]]]:
    """Of faces with four crossed edges: whether both lines cross, and the two pairs of edges that go together."""
    options = torch.tensor([[0, 1, 2, 3], [0, 2, 1, 3], [0, 3, 1, 2]])
    corners = points[at[:, None, None] + options]
    middles = 0.5 * (corners[:, :, [0, 2]] + corners[:, :, [1, 3]])
    off = queries.distances(middles.reshape(-1, 3)).view(-1, 3, 2).sum(2)
    best = off.argmin(1)
    chosen = options[best]
    return best == 0, [(chosen[:, 0], chosen[:, 1]), (chosen[:, 2], chosen[:, 3])]


def planes_of_sheets(
    sheets: Sheets,
    of: Int64[Tensor, "V K"],
    feet: Float64[Tensor, "S 3"],
    normals: Float64[Tensor, "S 3"],
    used: Bool[Tensor, " S"],
) -> Bool[Tensor, "V K"]:
    """Say which samples of a sheet's cell speak of it, and not of another sheet in the same cell.

    Args:
        sheets: All.
        of: The samples of each sheet's cell.
        feet, normals, used: Of the samples.
    """
    mine = torch.ones(of.shape, dtype=torch.bool)
    _, number, count = torch.unique(sheets.cells, return_inverse=True, return_counts=True)
    shared = (count[number] > 1).nonzero()[:, 0]
    if len(shared) == 0:
        return mine
    _, number = torch.unique(number[shared], return_inverse=True)
    away = sheets.middles[shared, None] - feet[of[shared]]
    off = (away * normals[of[shared]]).sum(2).abs() + _NEARER * away.norm(dim=2)
    least = torch.full((int(number.max()) + 1, of.shape[1]), torch.inf, dtype=off.dtype)
    least.scatter_reduce_(0, number[:, None].expand_as(off), off, "amin")
    nearest = off <= least[number]
    enough = (nearest & used[of[shared]]).sum(1, keepdim=True) >= _FEWEST
    mine[shared] = nearest | ~enough
    return mine
