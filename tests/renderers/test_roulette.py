import math

import pytest
import torch

from polyfield.errors import InputError, ShapeError
from polyfield.renderers.roulette import select_important, select_important_reference

BOTH = [select_important, select_important_reference]


def sizes(n: int) -> torch.Tensor:
    """Importance over six decades, a tenth of it zero, of both signs."""
    g = torch.Generator().manual_seed(n)
    values = 10 ** (6 * torch.rand(n, generator=g) - 6) * torch.randn(n, generator=g).sign()
    return values * (torch.rand(n, generator=g) > 0.1)


@pytest.mark.parametrize("function", BOTH)
def test_sums_are_unbiased(function) -> None:
    importance, values = sizes(300), torch.randn(300, generator=torch.Generator().manual_seed(1))
    draws = 512
    total = torch.zeros(300)
    for i in range(draws):
        rows, weights = function(importance, 80, (i + 0.5) / draws)
        total[rows] += weights * values[rows] / draws
    wanted = values * (importance != 0)
    # Over evenly spaced offsets an item of probability p is kept p * draws times, give or take one: its mean is off
    # by at most weight / draws, and no weight exceeds 1 / floor = 50.
    assert ((total - wanted).abs() <= values.abs() * 50 / draws + 1e-5).all()
    assert (total - wanted).sum().abs() < 0.05 * wanted.abs().sum()


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize(("n", "target"), [(1000, 250), (20000, 5000), (100, 90)])
def test_number_kept_is_the_target(function, n: int, target: int) -> None:
    importance = torch.rand(n, generator=torch.Generator().manual_seed(0)) + 0.1
    rows, weights = function(importance, target, 0.3)
    assert len(rows) == pytest.approx(target, rel=0.01, abs=1)
    assert (weights >= 1).all()
    assert (rows.diff() > 0).all()


def spread(sigma: float) -> torch.Tensor:
    """Lognormal: the larger sigma, the fewer items outweigh all others together."""
    return torch.exp(sigma * torch.randn(30000, generator=torch.Generator().manual_seed(2)) - 20)


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize(
    ("importance", "target"),
    [
        (torch.tensor([1e-6] * 1000 + [1.0]), 500),
        (torch.tensor([1.0] * 30000 + [1e6]), 7000),
        (torch.tensor([1e-42] * 1000 + [1e38]), 500),
        (torch.full((1000,), 1e36), 500),
        (torch.full((1000,), 3e38), 2),
        (torch.full((1000,), 1e-42), 500),
        (spread(6.0), 27000),
        (spread(12.0), 7000),
    ],
    ids=["one", "one of many", "one and next to nothing", "huge", "two", "tiny", "wide", "wider"],
)
@pytest.mark.parametrize("floor", [0.0, 0.001])
def test_number_kept_is_the_target_whatever_the_sizes(
    function, importance: torch.Tensor, target: int, floor: float
) -> None:
    rows, weights = function(importance, target, 0.3, floor)
    assert len(rows) == pytest.approx(target, rel=0.01, abs=1)
    assert (weights >= 1).all()


@pytest.mark.parametrize("function", BOTH)
def test_as_near_the_target_as_the_floor_and_the_number_of_items_allow(function) -> None:
    for importance in (torch.tensor([1e-6] * 1000 + [1.0]), spread(12.0)):
        count = len(importance)
        assert len(function(importance, 2 * count, 0.3)[0]) == count
        assert len(function(importance, 1, 0.3, 0.5)[0]) == pytest.approx(count / 2, abs=1)


@pytest.mark.parametrize("function", BOTH)
def test_important_items_are_always_kept_and_worthless_ones_never(function) -> None:
    importance = torch.full((1000,), 1e-3)
    importance[::100] = 1e3
    importance[1::100] = 0.0
    importance[2] = math.nan
    importance[3] = math.inf
    for offset in (0.0, 0.25, 0.999):
        rows, weights = function(importance, 100, offset)
        sure = torch.isin(rows, torch.cat([torch.arange(0, 1000, 100), torch.tensor([2, 3])]))
        assert int(sure.sum()) == 12
        assert (weights[sure] == 1).all()
        assert not torch.isin(rows, torch.arange(1, 1000, 100)).any()


@pytest.mark.parametrize("function", BOTH)
def test_a_small_item_has_its_chance(function) -> None:
    importance = torch.tensor([1e-30, 1.0, 1.0])
    draws = [function(importance, 2, (i + 0.5) / 100) for i in range(100)]
    found = [weights[0].item() for rows, weights in draws if rows[0] == 0]
    assert len(found) == 2  # the floor, 0.02, of 100
    assert found == pytest.approx([50.0, 50.0])


@pytest.mark.parametrize("function", BOTH)
def test_nothing_to_choose_from(function) -> None:
    for importance in (torch.zeros(0), torch.zeros(7)):
        rows, weights = function(importance, 3, 0.5)
        assert len(rows) == len(weights) == 0


@pytest.mark.parametrize("offset", [0.0, 0.4, 0.999])
def test_kernel_agrees_with_the_reference(offset: float) -> None:
    importance = sizes(5000)
    rows, _ = select_important(importance, 1250, offset)
    other, _ = select_important_reference(importance, 1250, offset)
    # The rates differ by up to the kernel's half percent, which moves the picks but not their number.
    assert len(rows) == pytest.approx(len(other), rel=0.01)


def test_messages() -> None:
    with pytest.raises(ShapeError, match=r"importance must be \[N\], but is \[2, 3\]"):
        select_important(torch.zeros(2, 3), 1, 0.5)
    with pytest.raises(InputError, match="target must be above 0, offset in"):
        select_important(torch.zeros(2), 1, 1.0)
    with pytest.raises(ShapeError, match=r"importance must be of floats, but is torch.int64 \[2\]"):
        select_important(torch.ones(2, dtype=torch.int64), 1, 0.5)
