"""Vector-matrix decomposition (TensoRF; Chen et al. 2022): a plane through two axes times a line along the third."""

from dataclasses import dataclass

from torch import Generator

from polyfield.errors import ConfigError
from polyfield.fields.encoders._factors import FactorEncoder
from polyfield.fields.ops.factor_grid import Factor, FactorLayout

__all__ = ["Config", "build"]

_INITIAL = 0.1  # standard deviation
_MODES = (((0, 1), 2), ((0, 2), 1), ((1, 2), 0))  # a plane's axes, its line's axis


@dataclass(frozen=True)
class Config:
    """Vector-matrix encoder.

    Attributes:
        channels: Rank of each of the three modes: 16 for a density, 48 for an appearance in the paper.
        side: Vertices along each axis; 300 in the paper.
    """

    channels: int = 16
    side: int = 128


def build(config: Config, dim: int, generator: Generator) -> FactorEncoder:
    """Make the encoder for inputs [N, 3]: 3 * channels features.

    Vertices are initially normal, of standard deviation 0.1.

    Raises:
        ConfigError: Points have other than 3 coordinates, or a value is out of range.
    """
    if dim != 3:
        raise ConfigError(f"vm: points must have 3 coordinates, but have {dim}.")
    groups = tuple(
        (Factor(plane, (config.side,) * 2), Factor((line,), (config.side,)))
        for plane, line in _MODES
    )
    layout = FactorLayout(dim, config.channels, groups)
    return FactorEncoder(layout, lambda table: table.normal_(0.0, _INITIAL, generator=generator))
