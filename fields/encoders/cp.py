"""CP decomposition (TensoRF-CP; Chen et al. 2022): the product of one line along each axis."""

from dataclasses import dataclass

from torch import Generator

from polyfield.fields.encoders._factors import FactorEncoder
from polyfield.fields.ops.factor_grid import Factor, FactorLayout

__all__ = ["Config", "build"]

_INITIAL = 0.2  # standard deviation


@dataclass(frozen=True)
class Config:
    """CP encoder.

    Attributes:
        channels: Rank, the number of features: 96 for a density, 288 for an appearance in the paper.
        side: Vertices along each axis; 500 in the paper.
    """

    channels: int = 96
    side: int = 300


def build(config: Config, dim: int, generator: Generator) -> FactorEncoder:
    """Make the encoder for inputs [N, dim], dim 1 to 4.

    Vertices are initially normal, of standard deviation 0.2.

    Raises:
        ConfigError: A value is out of range.
    """
    lines = tuple(Factor((axis,), (config.side,)) for axis in range(dim))
    layout = FactorLayout(dim, config.channels, (lines,))
    return FactorEncoder(layout, lambda table: table.normal_(0.0, _INITIAL, generator=generator))
