"""Asking distances: units, gradients whichever way they come, and what functions may not give."""

import numpy as np
import pytest
import torch
from torch import Tensor

from polyfield.errors import DataError, ShapeError
from polyfield.meshing.unsigned_distance import DistanceQueries

LOW = torch.tensor([-2.0, 1.0, 0.5], dtype=torch.float64)
CELL = 0.25


def ball(points: Tensor) -> Tensor:
    return (points.norm(dim=1) - 0.6).abs()


def with_gradient(points: Tensor) -> tuple[Tensor, Tensor]:
    away = points.norm(dim=1)
    return ball(points), 7.0 * (away - 0.6).sign()[:, None] * points / away[:, None]


def without_autograd(points: Tensor) -> Tensor:
    return torch.from_numpy(np.abs(np.linalg.norm(points.detach().numpy(), axis=1) - 0.6))


def places(count: int = 200) -> Tensor:
    return 16 * torch.rand(count, 3, generator=torch.Generator().manual_seed(0)).double()


FUNCTIONS = [ball, lambda p: ball(p)[:, None], with_gradient, without_autograd]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_distances_and_gradients_in_cells(function: object) -> None:
    queries = DistanceQueries(function, LOW, CELL)  # type: ignore[arg-type]
    points = LOW + CELL * places()
    away = points.norm(dim=1)
    distance, gradient = queries.gradients(places())
    # float32 inside: 1e-7 of a distance of 5, over a cell of 1/4; differences over 0.02 cells lose more.
    torch.testing.assert_close(distance, (away - 0.6).abs() / CELL, atol=1e-5, rtol=0)
    torch.testing.assert_close(queries.distances(places()), distance, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        gradient, (away - 0.6).sign()[:, None] * points / away[:, None], atol=1e-3, rtol=0
    )
    torch.testing.assert_close(gradient.norm(dim=1), torch.ones(200, dtype=torch.float64))


def test_questions_are_counted() -> None:
    queries = DistanceQueries(ball, LOW, CELL)
    queries.distances(places(10))
    queries.gradients(places(5))
    assert queries.count == 15
    blind = DistanceQueries(without_autograd, LOW, CELL)
    blind.gradients(places(5))
    assert blind.count == 35  # differences ask six times more


def test_no_slope_no_direction() -> None:
    _, gradient = DistanceQueries(lambda p: 0 * p.sum(1) + 1, LOW, CELL).gradients(places(3))
    assert gradient.tolist() == [[0, 0, 0]] * 3


def test_no_places() -> None:
    queries = DistanceQueries(ball, LOW, CELL)
    assert queries.distances(places(0)).shape == (0,)
    assert [part.shape for part in queries.gradients(places(0))] == [(0,), (0, 3)]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda p: p, r"must give \[4\] or \[4, 1\] for 4 points, but gave \[4, 3\]"),
        (lambda p: p[:2, 0], r"but gave \[2\]"),
        (lambda _: 3.0, "but gave float"),
        (lambda p: (ball(p), p[:, :2]), r"gradient must be \[4, 3\], but is \[4, 2\]"),
    ],
)
def test_other_shapes_are_refused(function: object, words: str) -> None:
    queries = DistanceQueries(function, LOW, CELL)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=words):
        queries.gradients(places(4))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    queries = DistanceQueries(lambda p: torch.where(p[:, 0] > 0, bad, ball(p)), LOW, CELL)
    with pytest.raises(DataError, match=r"must give finite numbers, but .* are NaN or infinite"):
        queries.distances(places())
    steep = DistanceQueries(lambda p: (ball(p), p * bad), LOW, CELL)
    with pytest.raises(DataError, match="gradient must be finite"):
        steep.gradients(places())
