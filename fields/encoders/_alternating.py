"""Alternating least squares: products of grids that add up to what is wanted, as nearly as they can.

With all grids but one held fixed, the sum of the features is linear in the entries of that one, and each of its
vertices has a small system of its own: C unknowns, and an equation for each place of a lattice that reads it. Where
nothing is wanted there is no place and no equation, so that costs neither time nor rank.

What is wanted are bounds: a place whose sum lies between them is content, one outside wants the nearer bound. The
distance from bounds is at most that from any values within, so it falls with every system that is solved for the
nearest values of the moment.

Axes: V vertices of all factors, C channels, K places, D coordinates.

See: Kolda and Bader (2009), "Tensor decompositions and applications", section 3.4, for alternating least squares;
Tomasi and Bro (2005), "PARAFAC and missing values", for solving only what is known.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polyfield.fields.ops.factor_layout import Factor, FactorLayout

__all__ = ["alternate"]

_DAMPING = 0.1  # of a system's mean diagonal: how strongly what it leaves open stays as it is
_AT_ONCE = 1 << 20  # numbers that systems are made of at a time
_TINY = 1e-20


@torch.no_grad()
def alternate(
    table: Float[Tensor, "V C"],
    layout: FactorLayout,
    places: Int[Tensor, "K D"],
    least: Float[Tensor, " K"],
    most: Float[Tensor, " K"],
    sweeps: int,
) -> None:
    """Change a table so that the features of `factor_grid` add up to something within bounds, at places of a lattice.

    Args:
        table: [layout.rows, C], changed in place. Where it begins decides where it ends, and nothing comes of a channel
            that begins with zeros.
        layout: The grids. All have the lattice's sides.
        places: Vertices of the lattice, as whole numbers from 0 along each axis; at least one, and none twice.
        least, most: Bounds of the sum at each; infinite where there is none.
        sweeps: How often each grid has its turn.

    Holds:
        The sum of squared distances from the bounds never rises from one sweep to the next, but by rounding. A vertex
        that no place reads stays as it is. Over those that some place reads, all grids of a group end with the same
        root mean square in each channel.
    """
    groups = _groups(layout, places)
    everywhere = torch.arange(len(places))
    total = torch.stack([_product(table, group, everywhere).sum(1) for group in groups]).sum(0)
    total, least, most = (torch.cat([v, v.new_zeros(1)]) for v in (total, least, most))
    for _ in range(sweeps):
        for group in groups:
            for grid in group:
                others = [other for other in group if other is not grid]
                _solve(table, grid, others, total, total.clamp(least, most) - total)
    for group in groups:
        _balance(table, group)


@dataclass(frozen=True)
class _Grid:
    """A grid as the places read it.

    Attributes:
        rows: Of the table, which each place reads, and one more for place K, which stands for none.
        systems: Batches of rows [B] and, for each, of the places that read it [B, M].
    """

    rows: Int[Tensor, " K+1"]
    systems: Sequence[tuple[Int[Tensor, " B"], Int[Tensor, "B M"]]]

    @property
    def read(self) -> Int[Tensor, " R"]:
        """Rows that any place reads."""
        return torch.cat([rows for rows, _ in self.systems])


def _groups(layout: FactorLayout, places: Tensor) -> list[list[_Grid]]:
    first = iter(layout.first_rows)
    return [
        [_grid(next(first) + _flat(factor, places), layout.channels) for factor in group]
        for group in layout.groups
    ]


def _flat(factor: Factor, places: Int[Tensor, "K D"]) -> Int[Tensor, " K"]:
    """Which vertex of a grid each place reads."""
    flat, stride = torch.zeros_like(places[:, 0]), 1
    for axis, side in zip(factor.axes, factor.sides, strict=True):
        flat += stride * places[:, axis]
        stride *= side
    return flat


def _grid(rows: Int[Tensor, " K"], channels: int) -> _Grid:
    order = rows.argsort(stable=True)
    ids, counts = rows[order].unique_consecutive(return_counts=True)
    begins = counts.cumsum(0) - counts
    order = torch.cat([order, order.new_tensor([len(rows)])])
    by_count = counts.argsort(descending=True, stable=True)  # a batch is as wide as its longest
    ids, counts, begins = ids[by_count], counts[by_count], begins[by_count]
    systems = []
    for some in _batches(counts.tolist(), channels):
        width = torch.arange(int(counts[some.start]))
        entries = torch.where(width < counts[some, None], begins[some, None] + width, len(rows))
        systems.append((ids[some], order[entries]))
    return _Grid(torch.cat([rows, rows[:1]]), systems)


def _batches(counts: Sequence[int], channels: int) -> Iterator[slice]:
    """Cut systems of falling length into batches that are at least half full."""
    begin = 0
    while begin < len(counts):
        end = begin + 1
        most = begin + _AT_ONCE // (counts[begin] * channels)
        while end < min(len(counts), most) and 2 * counts[end] >= counts[begin]:
            end += 1
        yield slice(begin, end)
        begin = end


def _product(table: Tensor, grids: Sequence[_Grid], at: Tensor) -> Float[Tensor, "K C"]:
    """What some grids hold at each place, multiplied."""
    product = table.new_ones(len(at), table.shape[1])
    for grid in grids:
        product *= table.index_select(0, grid.rows.index_select(0, at))
    return product


def _solve(
    table: Tensor, grid: _Grid, others: Sequence[_Grid], total: Tensor, missing: Tensor
) -> None:
    """Solve the systems of a grid: add to its entries, and to the totals, what least misses what is missing.

    What is damped is the step, not the entry: the sum can then only come nearer, and what the equations leave open
    stays as random as it began, for a channel of zeros would never learn.
    """
    channels, none = table.shape[1], len(total) - 1
    for rows, places in grid.systems:
        equations = _product(table, others, places.flatten()).view(*places.shape, channels)
        equations *= (places < none)[..., None]
        gram = equations.mT @ equations
        size = gram.diagonal(dim1=1, dim2=2)
        size += _DAMPING * size.mean(1, keepdim=True) + _TINY
        step = torch.cholesky_solve(
            equations.mT @ missing[places][..., None], torch.linalg.cholesky(gram)
        )
        table[rows] += step[..., 0]
        total[places] += (equations @ step)[..., 0]


def _balance(table: Tensor, group: Sequence[_Grid]) -> None:
    """Give all grids of a group the same size in each channel: steps of one length then suit them all."""
    sizes = torch.stack([table[grid.read].square().mean(0).sqrt() for grid in group])
    factors = sizes.clamp_min(_TINY).log()
    factors = (factors.mean(0) - factors).exp()
    for grid, factor in zip(group, factors, strict=True):
        table[grid.read] *= factor
