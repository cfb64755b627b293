"""Coordinates to sines and cosines at doubling frequencies, nothing trained. Inputs are in [0, 1] or [-1, 1]."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Generator, Tensor, nn

from polyfield import native
from polyfield.errors import ConfigError
from polyfield.fields.ops.frequency import frequency
from polyfield.fields.registry import ParameterGroup

__all__ = ["Config", "Frequency", "build"]


@dataclass(frozen=True)
class Config:
    """Frequency encoding.

    Attributes:
        octaves: Number of frequencies, 1 to 64; octave k has the angle 2^k pi x. 10 for positions, 4 for directions.
        include_input: Put the coordinates themselves before the rest.
    """

    octaves: int = 10
    include_input: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.octaves <= 64:
            raise ConfigError(f"frequency: octaves must be 1 to 64, but is {self.octaves}.")


class Frequency(nn.Module):
    """See `polyfield.fields.ops.frequency`."""

    def __init__(self, config: Config, dim: int) -> None:
        super().__init__()
        self.config = config
        self.out_dim = dim * (2 * config.octaves + config.include_input)

    def forward(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N F"]:
        """Encode coordinates."""
        return frequency(x, self.config.octaves, self.config.include_input)

    def native_points(self) -> Any:
        """Make the native form for points [N, 3]: see `polyfield.fields.native_form`."""
        return native.core().FrequencyPoints(self.config.octaves, self.config.include_input)

    def groups(self) -> list[ParameterGroup]:
        """Nothing is trained."""
        return []


def build(config: Config, dim: int, generator: Generator) -> Frequency:  # noqa: ARG001
    """Make the encoder for inputs [N, dim]."""
    return Frequency(config, dim)
