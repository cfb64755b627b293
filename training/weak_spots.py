"""Where a student is weak: by camera, and by part of each camera's picture.

The camera and ray levels of active learning (PVD-AL; Fang et al. 2024) keep pools of the worst poses and of the worst
rays. Here both are one table of errors, by which rays are drawn; a part of a picture that has become right loses its
place by itself.
"""

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

__all__ = ["WeakSpots"]

_SIDE = 8  # parts of a picture along each of its sides
_TURN = 64  # lessons that are drawn by the same errors


class WeakSpots:
    """Errors of V cameras' pictures, each in 64 parts.

    What is drawn follows what was noted up to the beginning of a lesson's turn of 64, and that of the turn before is
    still known: so lessons can be made again when a run goes on, if they are not older than that.

    Args:
        views: V.
    """

    def __init__(self, views: int) -> None:
        parts = views * _SIDE**2
        # Sums and numbers of what is noted now; errors that the lessons of this turn, and of the one before, go by.
        self._sums, self._counts, self._now, self._before = torch.zeros(4, parts).unbind()
        self._turn = 0

    @staticmethod
    def parts_of(views: Int64[Tensor, " R"], places: Float[Tensor, "R 2"]) -> Int64[Tensor, " R"]:
        """Number the parts of pictures in which rays lie.

        Args:
            views: Number of each ray's camera.
            places: In the picture, from 0 to below 1 along each side.
        """
        column, row = (places * _SIDE).long().clamp_(0, _SIDE - 1).unbind(1)
        return (views * _SIDE + row) * _SIDE + column

    def note(self, parts: Int64[Tensor, " R"], errors: Float[Tensor, " R"]) -> None:
        """Remember how wrong rays in some parts were: 0 or more each."""
        self._sums.index_add_(0, parts, errors.nan_to_num(0.0, 0.0, 0.0))
        self._counts.index_add_(0, parts, torch.ones_like(errors))

    def draw(
        self, lesson: int, count: int, generator: Generator
    ) -> tuple[Int64[Tensor, " R"], Float[Tensor, "R 2"]] | None:
        """Draw rays for a lesson, parts in proportion to their errors.

        Args:
            lesson: Number of the lesson, from this turn of 64 or from the last one.
            count: R.

        Returns:
            Cameras, and places in their pictures; None as long as nothing is known.
        """
        turn = lesson // _TURN
        while self._turn < turn:
            known = self._counts > 0
            self._before = self._now
            self._now = torch.where(known, self._sums / self._counts.clamp_min(1.0), self._now)
            self._sums, self._counts = torch.zeros_like(self._sums), torch.zeros_like(self._counts)
            self._turn += 1
        errors = self._now if turn == self._turn else self._before
        if not bool((errors > 0).any()):
            return None
        parts = torch.multinomial(errors, count, replacement=True, generator=generator)
        corner = torch.stack([parts % _SIDE, parts // _SIDE % _SIDE], 1)
        inside = torch.rand(count, 2, generator=generator)
        return parts // _SIDE**2, (corner + inside) / _SIDE

    def state(self) -> tuple[Float[Tensor, "4 P"], int]:
        """What is needed to go on: errors, and the turn."""
        known = torch.stack([self._sums, self._counts, self._now, self._before])
        return known, self._turn

    def load_state(self, known: Tensor, turn: int) -> None:
        """Take back what `state` gave.

        Raises:
            ValueError: It is none of as many cameras.
        """
        if known.shape != (4, len(self._sums)) or not bool((known >= 0).all()) or turn < 0:
            raise ValueError(f"errors of {len(self._sums)} parts of pictures were expected")
        self._sums, self._counts, self._now, self._before = known.clone().unbind()
        self._turn = turn
