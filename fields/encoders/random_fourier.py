"""Coordinates to sines and cosines along random directions (random Fourier features), nothing trained.

See: Tancik et al. (2020), "Fourier features let networks learn high frequency functions in low dimensional domains",
section 5: the Gaussian mapping.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from polyfield.errors import ConfigError
from polyfield.fields.ops.frequency import frequency
from polyfield.fields.registry import ParameterGroup

__all__ = ["Config", "RandomFourier", "build"]


@dataclass(frozen=True)
class Config:
    """Random Fourier features.

    Attributes:
        features: Number of random waves, 1 to 32,768; each gives a sine and a cosine.
        sigma: Standard deviation of the waves' frequencies along each axis, in periods over the unit cube, in
            (0, 10^6]. Low ones blur, high ones let noise grow between the points that are seen. 10 for photographs.
    """

    features: int = 256
    sigma: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.features <= 1 << 15:
            raise ConfigError(
                f"random_fourier: features must be 1 to {1 << 15}, but is {self.features}."
            )
        if not 0 < self.sigma <= 1e6:
            raise ConfigError(f"random_fourier: sigma must be in (0, 10^6], but is {self.sigma}.")


class RandomFourier(nn.Module):
    """[sin(2 pi B x), cos(2 pi B x)].

    Attributes:
        frequencies: B [features, D], drawn from N(0, sigma^2) once; saved, but never trained.

    Holds:
        The inner product of two points' encodings is features times about exp(-2 (pi sigma d)^2), d their distance.

    Example:
        >>> encode = build(Config(features=4), 2, Generator().manual_seed(0))
        >>> encode(torch.zeros(1, 2)).tolist()
        [[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]]
    """

    frequencies: Tensor

    def __init__(self, config: Config, dim: int, generator: Generator) -> None:
        super().__init__()
        self.config = config
        self.out_dim = 2 * config.features
        drawn = torch.empty(config.features, dim).normal_(0.0, config.sigma, generator=generator)
        self.register_buffer("frequencies", drawn)

    def forward(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N F"]:
        """Encode coordinates."""
        # One octave of half turns: turns are taken off exactly, so that only the product rounds.
        return frequency(2.0 * (x @ self.frequencies.t()), 1)

    def groups(self) -> list[ParameterGroup]:
        """Nothing is trained."""
        return []


def build(config: Config, dim: int, generator: Generator) -> RandomFourier:
    """Make the encoder for inputs [N, dim]."""
    return RandomFourier(config, dim, generator)
