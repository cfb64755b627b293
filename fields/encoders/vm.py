"""Vector-matrix decomposition (TensoRF; Chen et al. 2022): a plane through two axes times a line along the third."""

from dataclasses import dataclass

from torch import Generator

from polyfield.errors import ConfigError
from polyfield.fields.encoders._factors import GrowingFactors, check_growth
from polyfield.fields.encoders._growth import Sides
from polyfield.fields.ops.factor_grid import Factor, FactorLayout

__all__ = ["Config", "build"]

_INITIAL = 0.1  # standard deviation
_MODES = (((0, 1), 2), ((0, 2), 1), ((1, 2), 0))  # a plane's axes, its line's axis


@dataclass(frozen=True)
class Config:
    """Vector-matrix encoder.

    Attributes:
        channels: Rank of each of the three modes: 16 for a density, 48 for an appearance in the paper.
        side: Vertices along each axis, now; 300 in the paper.
        sides: From which fractions of the run it has more: pairs of a fraction and a side, as [[0.2, 300]].
        sparsity: Weight of the mean absolute value of each plane's and line's entries, for a density; 0: none.
    """

    channels: int = 16
    side: int = 128
    sides: Sides = ()
    sparsity: float = 0.0

    def __post_init__(self) -> None:
        check_growth("vm", self.sides, self.sparsity)


def build(config: Config, dim: int, generator: Generator) -> GrowingFactors:
    """Make the encoder for inputs [N, 3]: 3 * channels features.

    Vertices are initially normal, of standard deviation 0.1.

    Raises:
        ConfigError: Points have other than 3 coordinates, or a value is out of range.
    """
    if dim != 3:
        raise ConfigError(f"vm: points must have 3 coordinates, but have {dim}.")

    def layout(side: int) -> FactorLayout:
        groups = tuple(
            (Factor(plane, (side, side)), Factor((line,), (side,))) for plane, line in _MODES
        )
        return FactorLayout(dim, config.channels, groups)

    return GrowingFactors(
        layout,
        config.side,
        config.sides,
        config.sparsity,
        lambda table: table.normal_(0.0, _INITIAL, generator=generator),
    )
