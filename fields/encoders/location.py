"""Places on a sphere to spherical harmonics (Russwurm et al., ICLR 2024: "Geographic location encoding").

The harmonics are those of `polyfield.fields.ops.spherical_harmonics`. The paper's code evaluates them at the antipode
of the place, which turns the sign of the odd bands, and its two ways of computing them differ by the Condon-Shortley
phase: weights that were trained with one of them need the same convention here.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from polyfield.errors import ConfigError, nearest
from polyfield.fields.ops.spherical_harmonics import spherical_harmonics
from polyfield.fields.registry import ParameterGroup

__all__ = ["CONVENTIONS", "Config", "Location", "build"]

CONVENTIONS = ("standard", "locationencoder-closed", "locationencoder-analytic")
"""How values are signed: as usual; at the antipode; at the antipode without the Condon-Shortley phase."""


@dataclass(frozen=True)
class Config:
    """Location encoder.

    Attributes:
        degree: Number of bands, 1 to 256; degree^2 features. A band resolves 180 degrees / degree.
        convention: One of `CONVENTIONS`.
    """

    degree: int = 10
    convention: str = "standard"

    def __post_init__(self) -> None:
        if not 1 <= self.degree <= 256:
            raise ConfigError(f"location: degree must be in 1..256, but is {self.degree}.")
        if self.convention not in CONVENTIONS:
            raise ConfigError(
                f"location: there is no convention {self.convention!r}."
                f"{nearest(self.convention, CONVENTIONS)}"
            )


class Location(nn.Module):
    """Points of the sphere, placed in [0, 1]^3 as (direction + 1) / 2, to degree^2 features; nothing is trained.

    Example:
        >>> north = torch.tensor([[0.5, 0.5, 1.0]])
        >>> build(Config(degree=2), 3, Generator())(north)[0, 2].item()  # sqrt(3 / 4 pi)
        0.48860251903533936
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.degree = config.degree
        self.out_dim = config.degree**2
        orders = [(band, m) for band in range(config.degree) for m in range(-band, band + 1)]
        turns = {
            "standard": [0 for _ in orders],
            "locationencoder-closed": [band for band, _ in orders],
            "locationencoder-analytic": [band + m for band, m in orders],
        }[config.convention]
        signs = torch.tensor([-1.0 if turn % 2 else 1.0 for turn in turns])
        self.register_buffer("signs", signs, persistent=False)

    signs: Tensor

    def forward(self, x: Float[Tensor, "N 3"]) -> Float[Tensor, "N F"]:
        """Encode."""
        return spherical_harmonics(2.0 * x - 1.0, self.degree) * self.signs

    def groups(self) -> list[ParameterGroup]:
        """Nothing is trained."""
        return []


def build(config: Config, dim: int, generator: Generator) -> Location:  # noqa: ARG001
    """Make the encoder.

    Raises:
        ConfigError: The points are not of three coordinates.
    """
    if dim != 3:
        raise ConfigError(f"location encodes points of a sphere, of 3 coordinates, not of {dim}.")
    return Location(config)
