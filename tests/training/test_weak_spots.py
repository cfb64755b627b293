"""Where a student is weak is looked at more often, and what was once known is known when a run goes on."""

import pytest
import torch
from torch import Generator, Tensor

from polyfield.training.weak_spots import WeakSpots


def everywhere(views: int) -> tuple[Tensor, Tensor]:
    """A ray through each part of each view."""
    middles = (torch.arange(8) + 0.5) / 8
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    places = torch.stack([x, y], 2).reshape(-1, 2).repeat(views, 1)
    return torch.arange(views).repeat_interleave(64), places


def test_parts_are_numbered_view_by_view_and_row_by_row() -> None:
    parts = WeakSpots.parts_of(*everywhere(3))
    assert parts.tolist() == list(range(192))
    edge = torch.tensor([[1.0, 1.0]])  # a rounding beyond the last place
    assert WeakSpots.parts_of(torch.tensor([2]), edge).tolist() == [191]


def test_nothing_is_known_before_the_first_turn() -> None:
    spots = WeakSpots(2)
    spots.note(torch.arange(128), torch.rand(128))
    assert spots.draw(63, 10, Generator()) is None
    assert spots.draw(64, 10, Generator()) is not None


def test_rays_follow_the_errors() -> None:
    spots, views = WeakSpots(3), 3
    errors = torch.rand(views * 64, generator=Generator().manual_seed(0)) ** 3
    errors[64:128] = 0.0  # of the second view nothing is wrong
    for part in range(0, views * 64, 2):  # told twice, but errors are means
        spots.note(torch.tensor([part]), errors[part][None])
    spots.note(torch.arange(views * 64), errors)
    count = 200_000
    drawn = spots.draw(64, count, Generator().manual_seed(1))
    assert drawn is not None
    chosen, places = drawn
    assert ((places >= 0) & (places < 1)).all()
    found = torch.bincount(WeakSpots.parts_of(chosen, places), minlength=views * 64) / count
    wanted = errors / errors.sum()
    # Five standard deviations of a share in so many draws.
    assert ((found - wanted).abs() <= 5 * (wanted / count).sqrt()).all()
    assert (chosen != 1).all()


def test_parts_that_nobody_looked_at_keep_their_errors() -> None:
    spots = WeakSpots(1)
    spots.note(torch.tensor([5]), torch.tensor([1.0]))
    spots.draw(64, 1, Generator())
    spots.note(torch.tensor([9]), torch.tensor([3.0]))
    drawn = spots.draw(128, 1000, Generator().manual_seed(0))
    assert drawn is not None
    parts = WeakSpots.parts_of(*drawn)
    assert set(parts.tolist()) == {5, 9}
    assert 650 < int((parts == 9).sum()) < 850  # 750, and seven standard deviations


def test_the_last_turn_is_still_known() -> None:
    spots = WeakSpots(1)
    spots.note(torch.tensor([5]), torch.tensor([1.0]))
    before = spots.draw(100, 50, Generator().manual_seed(0))
    spots.note(torch.tensor([9]), torch.tensor([1.0]))
    assert spots.draw(128, 50, Generator().manual_seed(0)) is not None
    again = spots.draw(100, 50, Generator().manual_seed(0))
    assert before is not None
    assert again is not None
    assert all(torch.equal(a, b) for a, b in zip(before, again, strict=True))
    later = WeakSpots(1)
    later.load_state(*spots.state())
    loaded = later.draw(100, 50, Generator().manual_seed(0))
    assert loaded is not None
    assert all(torch.equal(a, b) for a, b in zip(loaded, again, strict=True))


def test_errors_that_are_no_numbers_do_not_count() -> None:
    spots = WeakSpots(1)
    spots.note(torch.tensor([1, 2, 3]), torch.tensor([torch.nan, torch.inf, 1.0]))
    drawn = spots.draw(64, 100, Generator())
    assert drawn is not None
    assert set(WeakSpots.parts_of(*drawn).tolist()) == {3}


def test_a_state_of_other_cameras_is_refused() -> None:
    known, turn = WeakSpots(2).state()
    with pytest.raises(ValueError, match="192 parts"):
        WeakSpots(3).load_state(known, turn)
    with pytest.raises(ValueError, match="128 parts"):
        WeakSpots(2).load_state(known - 1.0, turn)
