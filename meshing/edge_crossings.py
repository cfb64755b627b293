"""Which edges of a lattice an unsigned surface crosses.

An unsigned distance has no sign that changes. But on both sides of a surface it grows away from it, so that an edge is
crossed where its gradients at both ends are against each other and somewhere between the distance is next to nothing.
Where the gradients are at right angles, at creases, that is a toss; there parity decides: the border of a small square
crosses a surface without border an even number of times.

Axes: E edges; A edges that are a toss.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from polyfield.meshing.octree import CellSamples, keys_of, numbers_of
from polyfield.meshing.unsigned_distance import DistanceQueries

__all__ = ["LatticeEdges", "SampledEdges", "crossed_edges", "edges_among"]

_TOSS = 0.3  # |likeness| of both ends
_LONGEST, _CLOSE = 1.05, 0.1  # sum of the distances at both ends; the distance that counts as none
_STEPS = 3  # of the secant method
_ROUNDS = 64


@dataclass(frozen=True)
class LatticeEdges:
    """Edges of the lattice around which all four cells are there.

    Attributes:
        axis: Along which each runs.
        corner: Where it begins.
        cells: The four cells around it, in turn.
        ends: The samples at both ends.
    """

    axis: Int64[Tensor, " E"]
    corner: Int64[Tensor, "E 3"]
    cells: Int64[Tensor, "E 4"]
    ends: Int64[Tensor, "E 2"]


def edges_among(cells: Int64[Tensor, "C 3"], samples: CellSamples, depth: int) -> LatticeEdges:
    """Find the edges around which all cells are there: a surface crosses no others."""
    known, unit = keys_of(cells, 1 << depth), torch.eye(3, dtype=torch.int64)
    parts = list[tuple[Tensor, ...]]()
    for axis in range(3):
        one, other = unit[(axis + 1) % 3], unit[(axis + 2) % 3]
        around = torch.stack([cells, cells - one, cells - one - other, cells - other], 1)
        there = (around >= 0).all(2)
        numbers = torch.where(there, numbers_of(keys_of(around, 1 << depth), known), -1)
        rows = (numbers >= 0).all(1).nonzero()[:, 0]
        end = int(2 * 9 // 3**axis)  # of a cell's samples, the corner a cell further along the axis
        ends = torch.stack([samples.of[rows, 0], samples.of[rows, end]], 1)
        parts.append((torch.full_like(rows, axis), cells[rows], numbers[rows], ends))
    return LatticeEdges(*(torch.cat(part) for part in zip(*parts, strict=True)))


@dataclass(frozen=True)
class SampledEdges:
    """Edges that are crossed.

    Attributes:
        numbers: Which of the lattice's.
        points: Where.
    """

    numbers: Int64[Tensor, " N"]
    points: Float64[Tensor, "N 3"]


def crossed_edges(
    edges: LatticeEdges,
    places: Float64[Tensor, "S 3"],
    distances: Float64[Tensor, " S"],
    gradients: Float64[Tensor, "S 3"],
    queries: DistanceQueries,
    noise: float,
) -> SampledEdges:
    """Find which edges the surface crosses.

    Args:
        edges: Those that it may cross.
        places, distances, gradients: Of the samples, in cells.
        queries: The distance, for places in between.
        noise: What a distance may be on the surface, in cells.
    """
    a, b = edges.ends.unbind(1)
    near = (distances[a] + distances[b] <= _LONGEST + 4 * noise).nonzero()[:, 0]
    samples = _Samples(places, distances, gradients)
    likeness = _likeness(samples.of(a[near]), samples.of(b[near]), noise)
    asked, likeness = near[likeness < _TOSS], likeness[likeness < _TOSS]
    point, distance = _closest_between(samples.of(a[asked]), samples.of(b[asked]), queries, noise)
    on_surface = distance < _CLOSE + noise
    crossed, toss = on_surface & (likeness < 0), on_surface & (likeness.abs() < _TOSS)
    crossed = _with_even_faces(edges, asked, crossed, toss)
    return SampledEdges(asked[crossed], point[crossed])


class _Samples(NamedTuple):
    places: Float64[Tensor, "N 3"]
    distances: Float64[Tensor, " N"]
    gradients: Float64[Tensor, "N 3"]

    def of(self, rows: Int64[Tensor, " M"]) -> "_Samples":
        return _Samples(*(values[rows] for values in self))

    def where(self, chosen: Bool[Tensor, " N"], other: "_Samples") -> "_Samples":
        return _Samples(
            torch.where(chosen[:, None], self.places, other.places),
            torch.where(chosen, self.distances, other.distances),
            torch.where(chosen[:, None], self.gradients, other.gradients),
        )


def _likeness(one: _Samples, other: _Samples, noise: float) -> Float64[Tensor, " N"]:
    """1 where two samples are on the same side of a surface, -1 where they are on opposite ones.

    Along an arc that joins their feet the normal turns by as much as the arc does: seen in the mirror halfway between
    the feet, one sample's gradient is the other's. That holds on both sides of a crease, where the gradients are at
    right angles and their cosine tells nothing.
    """
    feet, also = (some.places - some.distances[:, None] * some.gradients for some in (one, other))
    across = also - feet
    turned = (one.gradients * across).sum(1) * (other.gradients * across).sum(1)
    scale = across.square().sum(1) + max(16 * noise * noise, 1e-12)
    result: Tensor = (one.gradients * other.gradients).sum(1) - 2 * turned / scale
    return result


def _closest_between(
    low: _Samples, high: _Samples, queries: DistanceQueries, noise: float
) -> tuple[Tensor, Tensor]:
    """Where the distance is smallest between both ends, by secants, and how small."""
    best, best_distance = low.places, torch.full_like(low.distances, torch.inf)
    for _ in range(_STEPS):
        share = low.distances / (low.distances + high.distances).clamp(min=1e-12)
        middle = low.places + share[:, None] * (high.places - low.places)
        found = _Samples(middle, *queries.gradients(middle))
        better = found.distances < best_distance
        best = torch.where(better[:, None], middle, best)
        best_distance = torch.where(better, found.distances, best_distance)
        # The end on whose side of the surface the new place is moves there.
        first = _likeness(found, low, noise) > _likeness(found, high, noise)
        low, high = found.where(first, low), high.where(first, found)
    return best, best_distance


def _with_even_faces(
    edges: LatticeEdges, asked: Tensor, crossed: Bool[Tensor, " N"], toss: Bool[Tensor, " N"]
) -> Bool[Tensor, " N"]:
    """Flip edges that are a toss where that makes the number of crossed edges of lattice faces even.

    First single ones, of whose four faces three or four are odd, then pairs that have a face in common, of whose six
    others more are odd than even. None of those flipped at a time have a face in common.
    """
    taken = (crossed | toss).nonzero()[:, 0]
    faces = _faces_of(edges, asked[taken])
    state, free = crossed[taken].clone(), toss[taken].nonzero()[:, 0]
    odd = torch.zeros(int(faces.max()) + 1 if len(faces) else 0, dtype=torch.int64)
    odd.index_add_(0, faces[state].flatten(), torch.ones(4 * int(state.sum()), dtype=torch.int64))
    odd %= 2
    pairs = _pairs(faces, free)
    single = free[:, None]
    for groups in (single, pairs, single):  # what pairs leave, single ones may mend
        # A face that both of a pair have stands twice, and stays as it is.
        members = faces[groups].flatten(1).sort(1).values
        for _ in range(_ROUNDS):
            touched = _touched_once(members)
            count = (odd[members] * touched).sum(1)
            gain = 2 * count - touched.sum(1)
            enough = gain >= (2 if groups is single else 1)
            chosen = _apart(members, enough.nonzero()[:, 0], gain, len(odd))
            if len(chosen) == 0:
                break
            state[groups[chosen].flatten()] ^= True
            flips, once = members[chosen].flatten(), touched[chosen].flatten()
            odd[flips[once]] ^= 1
    result = crossed.clone()
    result[taken] = state
    return result


def _touched_once(members: Tensor) -> Tensor:
    """Which entries of sorted rows stand there once."""
    same = members[:, 1:] == members[:, :-1]
    end = torch.zeros(len(members), 1, dtype=torch.bool)
    return ~(torch.cat([same, end], 1) | torch.cat([end, same], 1))


def _apart(members: Tensor, rows: Tensor, gain: Tensor, count: int) -> Tensor:
    """Of rows those that no better one has a face in common with."""
    if len(rows) == 0:
        return rows
    rank = torch.empty_like(rows)
    rank[gain[rows].argsort(descending=True, stable=True)] = torch.arange(len(rows))
    first = torch.full((count,), len(rows))
    flat = members[rows]
    first.scatter_reduce_(0, flat.flatten(), rank.repeat_interleave(flat.shape[1]), "amin")
    return rows[(first[flat] == rank[:, None]).all(1)]


def _faces_of(edges: LatticeEdges, numbers: Tensor) -> Int64[Tensor, "N 4"]:
    """The four lattice faces that each edge borders, numbered from 0."""
    axis, corner, unit = edges.axis[numbers], edges.corner[numbers], torch.eye(3, dtype=torch.int64)
    one, other = unit[(axis + 1) % 3], unit[(axis + 2) % 3]
    size = int(corner.max()) + 2 if len(corner) else 1
    across, along = (axis + 1) % 3, (axis + 2) % 3
    keys = torch.stack(
        [
            3 * keys_of(corner, size) + across,
            3 * keys_of(corner - other, size) + across,
            3 * keys_of(corner, size) + along,
            3 * keys_of(corner - one, size) + along,
        ],
        1,
    )
    found: Tensor = torch.unique(keys, return_inverse=True)[1]
    return found


def _pairs(faces: Tensor, free: Tensor) -> Int64[Tensor, "P 2"]:
    """Pairs of edges that are a toss and border the same face."""
    at = faces[free].flatten()
    order = at.argsort(stable=True)
    at, who = at[order], free.repeat_interleave(4)[order]
    parts = list[Tensor]()
    for apart in (1, 2, 3):  # a face has four edges
        if len(at) > apart:
            same = at[apart:] == at[:-apart]
            parts.append(torch.stack([who[:-apart][same], who[apart:][same]], 1))
    return torch.cat(parts) if parts else torch.empty(0, 2, dtype=torch.int64)
