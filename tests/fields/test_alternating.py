"""Products of grids that are told what to add up to: exact where they can, never worse by a sweep, blind elsewhere."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from polyfield.fields import registry
from polyfield.fields.encoders import _factors
from polyfield.fields.encoders._alternating import alternate
from polyfield.fields.ops.factor_grid import Factor, FactorLayout, factor_grid_reference

RADIUS = 0.15
PLANES = (((0, 1), 2), ((0, 2), 1), ((1, 2), 0))


def vm(channels: int, sides: tuple[int, int, int]) -> FactorLayout:
    groups = (
        (Factor((a, b), (sides[a], sides[b])), Factor((c,), (sides[c],))) for (a, b), c in PLANES
    )
    return FactorLayout(3, channels, tuple(groups))


def cp(channels: int, sides: tuple[int, ...]) -> FactorLayout:
    lines = tuple(Factor((axis,), (side,)) for axis, side in enumerate(sides))
    return FactorLayout(len(sides), channels, (lines,))


LAYOUTS = {"vm": vm(4, (9, 12, 7)), "cp": cp(6, (9, 12, 7)), "line": cp(3, (11,))}
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def fresh(layout: FactorLayout, seed: int, size: float = 0.2) -> Tensor:
    return size * torch.randn(layout.rows, layout.channels, generator=seeded(seed))


def sides_of(layout: FactorLayout) -> tuple[int, ...]:
    sides = {a: s for f in layout.factors for a, s in zip(f.axes, f.sides, strict=True)}
    return tuple(sides[axis] for axis in range(layout.dim))


def everywhere(layout: FactorLayout) -> Tensor:
    return torch.ones(sides_of(layout)).nonzero()


def sums(layout: FactorLayout, table: Tensor, places: Tensor) -> Tensor:
    points = places.double() / (torch.tensor(sides_of(layout)) - 1)
    return factor_grid_reference(points, table.double(), layout).sum(1)


def smaller_truth(layout: FactorLayout, places: Tensor) -> Tensor:
    """Sums that a layout of half the channels gives: of a rank that the whole one has."""
    half = FactorLayout(layout.dim, max(layout.channels // 2, 1), layout.groups)
    return sums(half, fresh(half, 7, 1.0), places).float()


@every_layout
@pytest.mark.parametrize("share", [1.0, 0.7])
def test_what_has_its_rank_is_found(layout: FactorLayout, share: float) -> None:
    """Wherever it is wanted; a part is enough to be asked for."""
    places = everywhere(layout)
    places = places[torch.rand(len(places), generator=seeded(3)) < share]
    truth, table = smaller_truth(layout, places), fresh(layout, 1)
    alternate(table, layout, places, truth, truth, sweeps=100)
    # Sweeps converge linearly, and slowly from some beginnings: five had at most 1% left after so many.
    missing = sums(layout, table, places) - truth
    assert missing.square().mean().sqrt() < 0.02 * truth.std()


def test_of_a_matrix_it_leaves_what_no_other_of_its_rank_finds() -> None:
    """Eckart and Young (1936): the squares of the singular values behind the first C."""
    layout = cp(3, (14, 20))
    matrix = torch.randn(14, 20, generator=seeded(4))
    table, places = fresh(layout, 1), everywhere(layout)
    alternate(table, layout, places, matrix.view(-1), matrix.view(-1), sweeps=100)
    left = (sums(layout, table, places) - matrix.view(-1)).square().sum()
    best = torch.linalg.svdvals(matrix.double())[3:].square().sum()
    # Near the least, errors of entries count squared: those of float32 do not show.
    assert best * (1 - 1e-9) < left < best * (1 + 1e-6)


def distances(layout: FactorLayout, least: Tensor, most: Tensor, places: Tensor) -> list[float]:
    """Sums of squared distances from bounds after no sweep, one, two and so on."""
    found = []
    for sweeps in range(9):
        table = fresh(layout, 1)
        alternate(table, layout, places, least, most, sweeps)
        total = sums(layout, table, places)
        found.append(float((total.clamp(least, most) - total).square().sum()))
    return found


@every_layout
@pytest.mark.parametrize("bounded", [False, True])
def test_no_sweep_makes_it_worse(layout: FactorLayout, bounded: bool) -> None:
    places = everywhere(layout)[::2]
    wanted = 3 * torch.randn(len(places), generator=seeded(5))
    least = wanted.masked_fill(wanted < -2, -torch.inf) if bounded else wanted
    most = wanted.masked_fill(wanted > 2, torch.inf) if bounded else wanted
    found = distances(layout, least, most, places)
    # Sums of up to a thousand squares, of which each is rounded by some 1e-6 of what it was at first.
    assert all(later <= now + 1e-5 * found[0] for now, later in pairwise(found))
    assert found[-1] < 0.95 * found[0]


@every_layout
def test_places_within_their_bounds_want_nothing(layout: FactorLayout) -> None:
    places, table = everywhere(layout), fresh(layout, 1)
    before = sums(layout, table, places)
    alternate(table, layout, places, before.float() - 0.1, before.float() + torch.inf, sweeps=2)
    # Balancing multiplies some entries by what it divides others by: some roundings of 6e-8.
    torch.testing.assert_close(sums(layout, table, places), before, rtol=0, atol=1e-6)


@every_layout
def test_all_that_no_place_reads_stays_as_it_is(layout: FactorLayout) -> None:
    places, table = everywhere(layout), fresh(layout, 1)
    places = places[(places > 1).all(1) & (places[:, 0] < 6)]
    before = table.clone()
    alternate(table, layout, places, *[torch.ones(len(places))] * 2, sweeps=3)
    rows = torch.zeros(layout.rows, dtype=torch.bool)
    for factor, first in zip(layout.factors, layout.first_rows, strict=True):
        stride = 1
        row = torch.full((len(places),), first)
        for axis, side in zip(factor.axes, factor.sides, strict=True):
            row, stride = row + stride * places[:, axis], stride * side
        rows[row] = True
    assert torch.equal(table[~rows], before[~rows])
    assert (table[rows] != before[rows]).all()


@pytest.mark.parametrize("kind", ["vm", "cp"])
def test_grids_of_a_group_end_alike_and_none_is_dead(kind: str) -> None:
    """Nor where the rank would do with less: what is left over stays as random as it was."""
    layout = LAYOUTS[kind]
    places, table = everywhere(layout), fresh(layout, 1)
    truth = smaller_truth(layout, places)
    alternate(table, layout, places, truth, truth, sweeps=4)
    ends = [*layout.first_rows[1:], layout.rows]
    sizes = [
        table[i:j].square().mean(0).sqrt() for i, j in zip(layout.first_rows, ends, strict=True)
    ]
    each = len(layout.groups[0])
    for group in zip(*[iter(sizes)] * each, strict=True):
        for other in group[1:]:
            torch.testing.assert_close(group[0], other)
        assert group[0].min() > 0.01


# As encoders: on a lattice that they choose, where something may be.


def encoder(kind: str, **config: Any) -> Any:
    return registry.build_encoder({"kind": kind, **config}, 3, seeded(0))


def ball(points: Tensor) -> Tensor:
    return (points - 0.4).norm(dim=1) < RADIUS


def wave(points: Tensor) -> Tensor:
    """Rank one, and nearly linear over 1/30."""
    return 4 * torch.sin(2 * points + 0.3).prod(1)


class Asked:
    """Bounds that note where they were asked for, and hold garbage outside the ball's surroundings."""

    def __init__(self, garbage: float = 0.0) -> None:
        self.garbage, self.points, self.apart = garbage, torch.empty(0, 3), 0.0

    def __call__(self, points: Tensor, apart: float) -> tuple[Tensor, Tensor]:
        self.points, self.apart = points, apart
        near = (points - 0.4).norm(dim=1) < RADIUS + 4 * apart
        wanted = torch.where(near, wave(points), self.garbage)
        return wanted, wanted


def mean_miss(part: Any) -> float:
    """How far the sums are from the wave within the ball, where that is 3 or so.

    Interpolated over `apart` it is wrong by apart^2 / 8 of second derivatives, up to 16 along each of three axes;
    sweeps leave up to a hundredth.
    """
    x = torch.rand(50000, 3, generator=seeded(6))
    x = x[ball(x)]
    return float((part(x).detach().sum(1) - wave(x)).square().mean().sqrt())


@pytest.mark.parametrize("side", [21, 48, 128, 160])
@pytest.mark.parametrize("kind", ["vm", "cp"])
def test_an_encoder_adds_up_to_what_it_was_told(
    kind: str, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_factors, "_SWEEPS", 20)
    part = encoder(kind, channels=4, side=side, sides=[[0.5, 200]])
    asked, table = Asked(), part.table
    part.sum_to(asked, ball)
    assert part.table is table
    assert (part.side, part.layout.groups[0][0].sides[0]) == (side, side)
    assert asked.apart == pytest.approx(1 / (min(side, 128) - 1))
    assert mean_miss(part) < 6 * asked.apart**2 + 0.03


def test_nothing_is_asked_but_near_what_is_occupied() -> None:
    part, asked = encoder("vm", channels=2, side=40), Asked()
    part.sum_to(asked, ball)
    # A cell that holds something, one beside it, and the corners: two cells along each axis.
    assert (asked.points - 0.4).norm(dim=1).max() < RADIUS + 3 * 3**0.5 * asked.apart
    cells = torch.rand(5000, 3, generator=seeded(6))
    corners = (cells[ball(cells)] * 39).floor()[:, None] + torch.cartesian_prod(
        *[torch.arange(2.0)] * 3
    )
    known = {tuple(v) for v in (asked.points * 39).round().tolist()}
    assert {tuple(v) for v in corners.view(-1, 3).tolist()} <= known


def test_small_things_in_large_cells_are_found() -> None:
    part, asked = encoder("cp", channels=2, side=6), Asked()
    part.sum_to(asked, lambda x: (x - 0.33).norm(dim=1) < 0.02)
    assert len(asked.points) == 4**3


def test_what_lies_elsewhere_does_not_matter() -> None:
    tables = []
    for garbage in (0.0, 1e6):
        part = encoder("vm", channels=4, side=48)
        part.sum_to(Asked(garbage), ball)
        tables.append(part.table)
    assert torch.equal(*tables)


def test_where_nothing_is_nothing_is_told() -> None:
    part = encoder("vm", channels=2, side=12)
    before = part.table.clone()
    part.sum_to(Asked(), lambda x: torch.zeros(len(x), dtype=torch.bool))
    assert torch.equal(part.table, before)


def test_where_too_much_is_wanted_the_lattice_is_coarser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_factors, "_MOST_WANTED", 4 * 2000)
    monkeypatch.setattr(_factors, "_SWEEPS", 20)
    part, asked = encoder("cp", channels=4, side=60), Asked()
    part.sum_to(asked, ball)
    assert len(asked.points) <= 2000
    assert 1 / 59 < asked.apart < 1 / 15
    assert mean_miss(part) < 6 * asked.apart**2 + 0.03


@pytest.mark.parametrize("kind", registry.kinds("encoders"))
def test_only_products_of_disjoint_grids_can_be_told(kind: str) -> None:
    part = registry.build_encoder({"kind": kind}, 3, seeded(0))
    assert isinstance(part, registry.Summable) == (kind in ("vm", "cp"))
