"""Crossings: exactly the edges that lead from one side of a solid to the other, at creases and corners too."""

import pytest
import torch
from torch import Tensor

from polyfield.meshing.edge_crossings import crossed_edges, edges_among
from polyfield.meshing.octree import cells_near, samples_of
from polyfield.meshing.unsigned_distance import Distance, DistanceQueries

DEPTH = 5
LOW = torch.full((3,), -1.0, dtype=torch.float64)
CELL = 2 / (1 << DEPTH)
NOISE = 0.01  # cells


def turn() -> Tensor:
    matrix = torch.randn(3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return torch.linalg.qr(matrix)[0]


def ball(points: Tensor) -> Tensor:
    return points.double().norm(dim=1) - 0.613


def plane(points: Tensor) -> Tensor:
    return points.double() @ turn()[0] - 0.0123


def box(points: Tensor) -> Tensor:
    """Signed, with creases and corners."""
    beyond = (points.double() @ turn()).abs() - torch.tensor([0.5, 0.43, 0.31]).double()
    outside = torch.linalg.vector_norm(beyond.clamp(min=1e-30), dim=1)
    return torch.where((beyond > 0).any(1), outside, beyond.amax(1))


def edges_of(signed: Distance) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whether each lattice edge is crossed, as found and as signs tell; where; and the edges' ends."""
    queries = DistanceQueries(lambda p: signed(p).abs(), LOW, CELL)  # type: ignore[union-attr]
    cells = cells_near(queries, DEPTH, 2 * NOISE)
    samples = samples_of(cells, DEPTH)
    edges = edges_among(cells, samples, DEPTH)
    found = crossed_edges(edges, samples.places, *queries.gradients(samples.places), queries, NOISE)
    inside = signed(LOW + CELL * samples.places) < 0  # type: ignore[operator]
    crossed = torch.zeros(len(edges.axis), dtype=torch.bool)
    crossed[found.numbers] = True
    ends = samples.places[edges.ends]
    truth = inside[edges.ends[:, 0]] != inside[edges.ends[:, 1]]
    return crossed, truth, found.points, ends[found.numbers]


@pytest.mark.parametrize("signed", [ball, plane, box])
def test_crossed_edges_lead_from_side_to_side(signed: Distance) -> None:
    crossed, truth, points, ends = edges_of(signed)
    assert int(truth.sum()) > 1000
    assert torch.equal(crossed, truth)
    # On the edge, and on the surface.
    apart = (points - ends[:, 0]).norm(dim=1) + (points - ends[:, 1]).norm(dim=1)
    torch.testing.assert_close(apart, torch.ones_like(apart))
    # Three secants of a distance that is all but linear; at creases it may stop at a tenth of a cell.
    off = signed(LOW + CELL * points).abs() / CELL  # type: ignore[union-attr]
    assert float(off.max()) < 0.1 + NOISE
    assert float(off.median()) < 1e-3


def test_edges_are_those_with_all_four_cells() -> None:
    """Told the slow way."""
    queries = DistanceQueries(lambda p: ball(p).abs(), LOW, CELL)
    cells = cells_near(queries, DEPTH, 0.0)
    samples = samples_of(cells, DEPTH)
    edges = edges_among(cells, samples, DEPTH)
    there = {tuple(cell) for cell in cells.tolist()}
    expected = set()
    for axis in range(3):
        one, other = [0] * 3, [0] * 3
        one[(axis + 1) % 3], other[(axis + 2) % 3] = 1, 1
        for cell in there:
            around = [
                tuple(c - i * a - j * b for c, a, b in zip(cell, one, other, strict=True))
                for i in (0, 1)
                for j in (0, 1)
            ]
            if all(near in there for near in around):
                expected.add((axis, *cell))
    corners = torch.cat([edges.axis[:, None], edges.corner], 1)
    assert {tuple(edge) for edge in corners.tolist()} == expected
    assert len(edges.axis) == len(expected)
    ends = samples.places[edges.ends]
    assert torch.equal(ends[:, 0], edges.corner.double())
    assert torch.equal(ends[:, 1], ends[:, 0] + torch.eye(3).double()[edges.axis])
    # In turn: each of the four cells shares a face with the next, and all have the edge.
    steps = cells[edges.cells] - cells[edges.cells.roll(-1, 1)]
    assert bool((steps.abs().sum(2) == 1).all())
    below = edges.corner[:, None] - cells[edges.cells]
    assert bool(((below == 0) | (below == 1)).all())


def test_beyond_the_rim_nothing_is_crossed() -> None:
    """A half plane that ends: edges that pass well beyond its rim are not crossed, those well within are."""

    def half(points: Tensor) -> Tensor:
        local = points.double() @ turn()
        return torch.hypot(local[:, 0] - 0.0123, local[:, 1].clamp(min=1e-30))

    queries = DistanceQueries(half, LOW, CELL)
    cells = cells_near(queries, DEPTH, 2 * NOISE)
    samples = samples_of(cells, DEPTH)
    edges = edges_among(cells, samples, DEPTH)
    found = crossed_edges(edges, samples.places, *queries.gradients(samples.places), queries, NOISE)
    ends = (LOW + CELL * samples.places[edges.ends]) @ turn() - torch.tensor(
        [0.0123, 0, 0]
    ).double()
    share = ends[:, 0, 0] / (ends[:, 0, 0] - ends[:, 1, 0])
    at = (ends[:, 0, 1] + share * (ends[:, 1, 1] - ends[:, 0, 1])) / CELL
    through = (share > 0) & (share < 1)
    crossed = torch.zeros(len(edges.axis), dtype=torch.bool)
    crossed[found.numbers] = True
    assert bool(crossed[through & (at < 0)].all())
    assert not bool(crossed[(through & (at > 0.5)) | ~through & (at.abs() > 1)].any())
    assert int(crossed.sum()) > 300
