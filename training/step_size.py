"""Steps that take samples along rays: their settings, their size, and what they draw.

A step has rays that give about so many samples, backgrounds behind them, and samples that count.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from polyfield.errors import ConfigError
from polyfield.renderers.roulette import select_important
from polyfield.training.rates import Rates

__all__ = ["SampledTraining", "StepSize", "draw_backgrounds", "draw_important"]

_FEWEST, _MOST = 64, 1 << 16  # rays of a step


@dataclass(frozen=True)
class SampledTraining(Rates):
    """How a radiance field learns, whatever says what rays show.

    Attributes:
        rate, head_rate, warmup, hold, final_rate: As of `Rates`.
        samples: Samples that a step should shade; the number of rays follows.
        growth: Factor by which the samples of a step grow with the progress of the run, evenly: many small steps
            first, when any gradient will do, then large ones, when noise is what is left of the error. `samples` is
            what a step shades in the middle of the run.
        roulette: Share of them that is back-propagated; 1: all, each exactly once.
        huber: Where the loss of colours turns from square to linear.
        min_transmittance: Samples behind this are not shaded.
        prune: Where a gate lets less than this share through it is closed, and what is then never read is dropped, in
            the model that a finished run saves; 0: nothing. A run that goes on does so from its state.

    Raises:
        ConfigError: A value is out of its range; the key is named.
    """

    rate: float = 0.03
    head_rate: float = 0.3
    warmup: int = 30
    hold: float = 0.45
    final_rate: float = 0.03
    samples: int = 32768
    growth: float = 1.0
    roulette: float = 0.25
    huber: float = 0.1
    min_transmittance: float = 1e-3
    prune: float = 0.03

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive("huber", "roulette", "growth")
        self._check_counts(samples=1 << 24)
        self._check_shares("roulette", "min_transmittance", "prune")

    def _check_positive(self, *names: str) -> None:
        """Refuse settings that are not above 0."""
        for name in names:
            if not getattr(self, name) > 0:
                raise ConfigError(f"train.{name} must be above 0, but is {getattr(self, name)}.")

    def _check_counts(self, **most: int) -> None:
        """Refuse settings that are not whole numbers from 1 to the most that is said."""
        for name, limit in most.items():
            if not 1 <= getattr(self, name) <= limit:
                raise ConfigError(
                    f"train.{name} must be in 1..{limit}, but is {getattr(self, name)}."
                )

    def _check_shares(self, *names: str) -> None:
        """Refuse settings that are not in [0, 1]."""
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"train.{name} must be in [0, 1], but is {getattr(self, name)}.")


class StepSize:
    """The number of rays of each step, so that a step has about the samples that it should.

    Args:
        training: Says how many samples a step should have.
        each: Samples that a ray takes at first.

    Attributes:
        rays: Of the next step.
    """

    def __init__(self, training: SampledTraining, each: int) -> None:
        self._training = training
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
        first = 2.0 / (1.0 + self._training.growth)
        return self._training.samples * (first + 2.0 * (1.0 - first) * progress)


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
