"""Directions to spherical harmonics: smooth functions on the sphere, nothing trained.

Inputs are unit vectors in [-1, 1]^3 (tiny-cuda-nn's [0, 1]^3 is mapped where its configs are read).
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Generator, Tensor, nn

from polyfield.errors import ConfigError
from polyfield.fields.ops.spherical_harmonics import spherical_harmonics
from polyfield.fields.registry import ParameterGroup

__all__ = ["Config", "SphericalHarmonics", "build"]


@dataclass(frozen=True)
class Config:
    """Spherical harmonics.

    Attributes:
        degree: Number of bands, >= 1; degree^2 features. 4 is the habit for colours that depend on the view.
    """

    degree: int = 4

    def __post_init__(self) -> None:
        if self.degree < 1:
            raise ConfigError(
                f"spherical_harmonics: degree must be at least 1, but is {self.degree}."
            )


class SphericalHarmonics(nn.Module):
    """See `polyfield.fields.ops.spherical_harmonics`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.degree = config.degree
        self.out_dim = config.degree**2

    def forward(self, x: Float[Tensor, "N 3"]) -> Float[Tensor, "N F"]:
        """Encode unit vectors."""
        return spherical_harmonics(x, self.degree)

    def groups(self) -> list[ParameterGroup]:
        """Nothing is trained."""
        return []


def build(config: Config, dim: int, generator: Generator) -> SphericalHarmonics:  # noqa: ARG001
    """Make the encoder.

    Raises:
        ConfigError: The input is not of three coordinates.
    """
    if dim != 3:
        raise ConfigError(f"spherical_harmonics encodes directions of 3 coordinates, not of {dim}.")
    return SphericalHarmonics(config)
