"""How large a step is, and what it draws: rays that give about so many samples, backgrounds, samples that count."""

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from polyfield.renderers.roulette import select_important

__all__ = ["StepSize", "draw_backgrounds", "draw_important"]

_FEWEST, _MOST = 64, 1 << 16  # rays of a step


class StepSize:
    """The number of rays of each step, so that a step has about the samples that it should.

    Args:
        samples: That a step should have in the middle of the run.
        growth: Factor by which they grow with the progress of the run, evenly.
        each: Samples that a ray takes at first.

    Attributes:
        rays: Of the next step.
    """

    def __init__(self, samples: int, growth: float, each: int) -> None:
        self._samples, self._growth = samples, growth
        self.rays = 0
        self.start(each)

    def start(self, each: int) -> None:
        """Begin anew, with rays that take so many samples each."""
        self.rays = max(_FEWEST, min(int(self._wanted(0.0)) // each, _MOST))

    def adapt(self, rays: int, samples: int, progress: float) -> None:
        """Follow what a step had."""
        wanted = rays * self._wanted(progress) / max(samples, 1)
        self.rays = int(min(max(wanted, self.rays / 2, _FEWEST), self.rays * 2, _MOST))

    @staticmethod
    def check(rays: int) -> int:
        """Give a number of rays back.

        Raises:
            ValueError: No step takes so many.
        """
        if not _FEWEST <= rays <= _MOST:
            raise ValueError(
                f"a step takes {_FEWEST} to {_MOST} rays, but {str(rays)[:20]} are noted"
            )
        return rays

    def _wanted(self, progress: float) -> float:
        first = 2.0 / (1.0 + self._growth)
        return self._samples * (first + 2.0 * (1.0 - first) * progress)


def draw_backgrounds(
    color: tuple[float, float, float] | None, rays: int, generator: Generator
) -> Float[Tensor, "R 3"]:
    """Give what lies behind rays: a colour, or None for a random one for each."""
    if color is None:
        return torch.rand((rays, 3), generator=generator)
    return torch.tensor(color).expand(rays, 3)


def draw_important(
    importance: Float[Tensor, " N"], share: float, generator: Generator
) -> tuple[Int64[Tensor, " M"], Float[Tensor, " M"]]:
    """Draw a share of samples, the important ones more likely.

    Args:
        importance: Of each sample, at least 0.
        share: Of them that is drawn; 1: all, each exactly once.
        generator: Draws.

    Returns:
        Which, rising, and what each is to be weighed with, so that sums are right in the mean.
    """
    if share >= 1.0 or not len(importance):
        return torch.arange(len(importance)), torch.ones_like(importance)
    offset = float(torch.rand((), generator=generator))
    return select_important(importance, share * len(importance), offset)
