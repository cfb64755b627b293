"""CP decomposition (TensoRF-CP; Chen et al. 2022): the product of one line along each axis."""

from dataclasses import dataclass

from torch import Generator

from polyfield.fields.encoders._factors import GrowingFactors, check_growth
from polyfield.fields.encoders._growth import Sides
from polyfield.fields.ops.factor_grid import Factor, FactorLayout

__all__ = ["Config", "build"]

_INITIAL = 0.2  # standard deviation


@dataclass(frozen=True)
class Config:
    """CP encoder.

    Attributes:
        channels: Rank, the number of features: 96 for a density, 288 for an appearance in the paper.
        side: Vertices along each axis, now; 500 in the paper.
        sides: From which fractions of the run it has more: pairs of a fraction and a side, as [[0.2, 500]].
        sparsity: Weight of the mean absolute value of each line's entries, for a density; 0: none.
    """

    channels: int = 96
    side: int = 300
    sides: Sides = ()
    sparsity: float = 0.0

    def __post_init__(self) -> None:
        check_growth("cp", self.sides, self.sparsity)


def build(config: Config, dim: int, generator: Generator) -> GrowingFactors:
    """Make the encoder for inputs [N, dim], dim 1 to 4.

    Vertices are initially normal, of standard deviation 0.2.

    Raises:
        ConfigError: A value is out of range.
    """

    def layout(side: int) -> FactorLayout:
        lines = tuple(Factor((axis,), (side,)) for axis in range(dim))
        return FactorLayout(dim, config.channels, (lines,))

    return GrowingFactors(
        layout,
        config.side,
        config.sides,
        config.sparsity,
        lambda table: table.normal_(0.0, _INITIAL, generator=generator),
    )
