"""The octree: no cell that the surface touches is missing, and samples are shared exactly."""

import math

import pytest
import torch
from torch import Generator, Tensor

from polyfield.meshing.octree import cells_near, keys_of, numbers_of, samples_of
from polyfield.meshing.unsigned_distance import Distance, DistanceQueries

LOW = torch.full((3,), -1.0, dtype=torch.float64)


def ball(points: Tensor) -> Tensor:
    return (points.double().norm(dim=1) - 0.6).abs()


def slope(points: Tensor) -> Tensor:
    return (points.double() @ torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64) - 0.1).abs()


def queries(distance: Distance, depth: int) -> DistanceQueries:
    return DistanceQueries(distance, LOW, 2 / (1 << depth))


@pytest.mark.parametrize("distance", [ball, slope])
@pytest.mark.parametrize("depth", [0, 1, 3, 5])
def test_cells_are_those_near_the_surface(distance: Distance, depth: int) -> None:
    """As asking every cell of the finest lattice finds them: none is lost on the way."""
    count = 1 << depth
    found = cells_near(queries(distance, depth), depth, 0.01)
    every = torch.cartesian_prod(*[torch.arange(count)] * 3)
    away = queries(distance, depth).distances(every.double() + 0.5)
    expected = every[away < 0.5 * math.sqrt(3) + 0.01]
    assert torch.equal(found, expected)


def test_every_cell_with_a_point_of_the_surface_is_there() -> None:
    depth = 6
    known = keys_of(cells_near(queries(ball, depth), depth, 0.0), 1 << depth)
    way = torch.randn(20_000, 3, generator=Generator().manual_seed(0), dtype=torch.float64)
    points = 0.6 * torch.nn.functional.normalize(way, dim=1)
    touched = ((points - LOW) * (1 << depth) / 2).floor().long()
    assert bool((numbers_of(keys_of(touched, 1 << depth), known) >= 0).all())


def test_far_from_all_there_are_no_cells() -> None:
    assert cells_near(queries(lambda p: p.norm(dim=1) + 9, 4), 4, 0.1).shape == (0, 3)


def test_keys_and_numbers_go_back() -> None:
    every = torch.cartesian_prod(*[torch.arange(5)] * 3)
    keys = keys_of(every, 5)
    assert torch.equal(keys, torch.arange(125))
    some = torch.tensor([3, 7, 100])
    assert numbers_of(torch.tensor([[7, 4], [100, 124]]), some).tolist() == [[1, -1], [2, -1]]
    assert numbers_of(keys, some[:0]).tolist() == [-1] * 125


def test_samples_are_shared_exactly() -> None:
    """Each place once, and where two cells touch, the same numbers in both."""
    cells = cells_near(queries(ball, 4), 4, 0.1)
    samples = samples_of(cells, 4)
    assert len(samples.places.unique(dim=0)) == len(samples.places)
    offsets = 0.5 * torch.cartesian_prod(*[torch.arange(3)] * 3)
    expected = cells[:, None] + offsets
    assert torch.equal(samples.places[samples.of], expected.double())
    assert len(samples.of.unique()) == len(samples.places)
