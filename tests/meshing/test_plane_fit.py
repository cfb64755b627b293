"""Fits of planes: closed forms, native as the reference, and what to do with too little or with nonsense."""

import math

import pytest
import torch
from torch import Generator, Tensor

from polyfield import native
from polyfield.meshing.plane_fit import FittedPoints, Planes, fit_planes, fit_planes_reference


def planes_through(points: Tensor, normals: Tensor) -> Planes:
    """One cell that has them all."""
    count = len(points)
    return Planes(points, normals, torch.ones(count, dtype=torch.bool), torch.arange(count)[None])


def fitted(planes: Planes, origin: tuple[float, float, float]) -> FittedPoints:
    low = torch.zeros(1, 3, dtype=torch.float64)
    return fit_planes(planes, low, torch.tensor([origin], dtype=torch.float64))


def turned(seed: int) -> Tensor:
    """Three directions at right angles."""
    matrix = torch.randn(3, 3, generator=Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(matrix)[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_planes_through_a_point_meet_there(rank: int, seed: int) -> None:
    """The nearest point to the origin that lies on all of them; the direction is the normal or the crease."""
    axes, corner = turned(seed), torch.tensor([0.4, 0.6, 0.5], dtype=torch.float64)
    normals = axes[torch.arange(9) % rank]
    found = fitted(planes_through(corner.expand(9, 3), normals), (0.5, 0.5, 0.5))
    origin = torch.full((3,), 0.5, dtype=torch.float64)
    told = axes[:rank]
    expected = origin + told.T @ (told @ (corner - origin))
    torch.testing.assert_close(found.points[0], expected, atol=1e-12, rtol=0)
    assert int(found.ranks[0]) == rank
    line = {1: axes[0], 2: axes[2], 3: torch.zeros(3, dtype=torch.float64)}[rank]
    assert abs(abs(float(found.directions[0] @ line)) - float(line.norm())) < 1e-12


def test_the_mean_of_parallel_planes() -> None:
    """Least squares: the plane in the middle."""
    feet = torch.tensor([[0, 0, 0.2], [0, 0, 0.3], [0, 0, 0.7]], dtype=torch.float64)
    up = torch.tensor([[0, 0, 1.0]], dtype=torch.float64).expand(3, 3)
    found = fitted(planes_through(feet, up), (0.1, 0.9, 0.5))
    torch.testing.assert_close(
        found.points[0], torch.tensor([0.1, 0.9, 0.4], dtype=torch.float64), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_planes_leave_the_origin(count: int) -> None:
    feet, up = torch.zeros(5, 3, dtype=torch.float64), torch.eye(3).double()[[2] * 5]
    planes = Planes(feet, up, torch.arange(5) < count, torch.arange(5)[None])
    found = fitted(planes, (0.3, 0.4, 0.5))
    assert found.points[0].tolist() == [0.3, 0.4, 0.5]
    assert (int(found.ranks[0]), found.directions[0].tolist()) == (0, [0, 0, 0])


def test_far_planes_give_way_to_near_ones() -> None:
    """A sheet two cells away pulls the fit out of the cell; without it the sheet in the cell is met."""
    feet = torch.tensor([[0.5, 0.5, 0.25]] * 4 + [[0.5, 0.5, 4.0]] * 8, dtype=torch.float64)
    up = torch.tensor([[0, 0, 1.0]], dtype=torch.float64).expand(12, 3)
    found = fitted(planes_through(feet, up), (0.5, 0.5, 0.5))
    assert math.isclose(float(found.points[0, 2]), 0.25)


def noise_of_cells(cells: int, seed: int) -> tuple[Planes, Tensor, Tensor]:
    """Planes at random, so that ranks, retries and failures all occur."""
    generator = Generator().manual_seed(seed)
    samples = 6 * cells
    low = torch.randint(8, (cells, 3), generator=generator).double()
    of = torch.randint(samples, (cells, 27), generator=generator)
    feet = torch.zeros(samples, 3, dtype=torch.float64)
    spread = 0.1 + 1.2 * torch.rand(samples, 3, generator=generator, dtype=torch.float64)
    feet[of.flatten()] = low.repeat_interleave(27, 0) + spread[of.flatten()]
    normals = torch.randn(samples, 3, generator=generator, dtype=torch.float64)
    flat = torch.rand(samples, 1, generator=generator) < 0.7
    normals = torch.nn.functional.normalize(
        torch.where(flat, normals * torch.tensor([0.03, 0.03, 1.0]).double(), normals), dim=1
    )
    used = torch.rand(samples, generator=generator) < 0.6
    return Planes(feet, normals, used, of), low, low + 0.5


@pytest.mark.skipif(not native.available(), reason="compares the native fit with the reference")
@pytest.mark.parametrize("seed", range(4))
def test_native_is_the_reference(seed: int) -> None:
    planes, low, origins = noise_of_cells(500, seed)
    mine, theirs = fit_planes(planes, low, origins), fit_planes_reference(planes, low, origins)
    # The one squares the matrix, the other does not: a singular value at the limit may fall on either side.
    same = mine.ranks == theirs.ranks
    assert float(same.double().mean()) > 0.995
    assert len(mine.ranks.unique()) > 2
    torch.testing.assert_close(mine.points[same], theirs.points[same], atol=1e-8, rtol=1e-8)
    aligned = (mine.directions[same] * theirs.directions[same]).sum(1).abs()
    told = theirs.directions[same].norm(dim=1) > 0.5
    # Of two singular values that are all but equal, either vector will do.
    assert float((aligned[told] > 1 - 1e-6).double().mean()) > 0.99


def test_no_cells_no_points() -> None:
    planes, _, _ = noise_of_cells(3, 0)
    none = torch.zeros(0, 3, dtype=torch.float64)
    planes = planes._replace(of=torch.zeros(0, 27, dtype=torch.int64))
    assert [tuple(part.shape) for part in fit_planes(planes, none, none)] == [(0, 3), (0,), (0, 3)]


def test_samples_that_are_not_used_may_be_nan() -> None:
    planes, low, origins = noise_of_cells(200, 1)
    expected = fit_planes(planes, low, origins)
    feet = torch.where(planes.used[:, None], planes.feet, math.nan)
    found = fit_planes(planes._replace(feet=feet), low, origins)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_cell_is_fitted_alone() -> None:
    """In whatever company and order."""
    planes, low, origins = noise_of_cells(300, 2)
    whole = fit_planes(planes, low, origins)
    order = torch.randperm(300, generator=Generator().manual_seed(0))[:77]
    some = fit_planes(planes._replace(of=planes.of[order]), low[order], origins[order])
    # The reference multiplies matrices in batches, whose sums are rounded by how many there are.
    rounding = 0.0 if native.available() else 1e-9
    for one, other in zip(whole, some, strict=True):
        assert torch.allclose(one[order].double(), other.double(), rtol=0, atol=rounding)
