"""K-planes (Fridovich-Keil et al. 2023): at each scale the product of what all planes through two axes hold."""

from dataclasses import dataclass
from itertools import combinations

from torch import Generator

from polyfield.errors import ConfigError
from polyfield.fields.encoders._factors import FactorEncoder
from polyfield.fields.ops.factor_grid import Factor, FactorLayout

__all__ = ["Config", "build"]

_INITIAL = (0.1, 0.5)  # a product of three of them is well away from 0, where all gradients vanish


@dataclass(frozen=True)
class Config:
    """K-planes encoder.

    Attributes:
        channels: Features of a scale, 1 to 1024.
        base: Vertices along each side of a plane at scale 1.
        scales: One group of planes each; a plane has base * scale vertices along a side.
    """

    channels: int = 16
    base: int = 64
    scales: tuple[int, ...] = (1, 2, 4, 8)

    def __post_init__(self) -> None:
        if not self.scales or not all(1 <= scale <= 1024 for scale in self.scales):
            raise ConfigError(
                f"kplanes: scales must be one or more numbers from 1 to 1024, but are {list(self.scales)}."
            )
        if not 2 <= self.base <= 2**14:
            raise ConfigError(f"kplanes: base must be 2 to {2**14}, but is {self.base}.")


def build(config: Config, dim: int, generator: Generator) -> FactorEncoder:
    """Make the encoder for inputs [N, dim], dim 2 to 4 (the fourth coordinate may be time).

    Vertices are initially uniform in [0.1, 0.5].

    Raises:
        ConfigError: There is no plane through two axes, or a value is out of range.
    """
    if not 2 <= dim <= 4:
        raise ConfigError(f"kplanes: points must have 2 to 4 coordinates, but have {dim}.")
    groups = tuple(
        tuple(Factor(axes, (config.base * scale,) * 2) for axes in combinations(range(dim), 2))
        for scale in config.scales
    )
    layout = FactorLayout(dim, config.channels, groups)
    return FactorEncoder(layout, lambda table: table.uniform_(*_INITIAL, generator=generator))
