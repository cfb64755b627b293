"""Sizes of an operation on radial bases: which kernel, how many neighbours, which sines."""

import json
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from polyfield.errors import ConfigError, nearest

__all__ = ["KERNELS", "MOST_NEIGHBOURS", "RadialBases", "RbfShape", "shape_of"]

KERNELS = ("inverse_quadratic", "inverse_multiquadric", "gaussian", "tent")
"""In the order of RbfKernel (csrc/kernels/rbf.h)."""

MOST_NEIGHBOURS = 16
_MOST_CHANNELS = 1024
_MOST_EXPONENT = 16  # the kernels' sine is exact for arguments up to 10^5


class RadialBases(NamedTuple):
    """Where radial bases lie, and how wide they are. None of it is trained.

    Attributes:
        centres: [M, D], in the coordinates of the points.
        shapes: [M, S]. Of the tent S = 1, the inverse of its half width; else S = D (D + 1) / 2, the upper triangle of
            the inverse of the squared widths' matrix, row by row.
        extent: [D]. Widths and distances are of points times this.
    """

    centres: Float[Tensor, "M D"]
    shapes: Float[Tensor, "M S"]
    extent: Float[Tensor, " D"]


@dataclass(frozen=True)
class RbfShape:
    """Sizes of an operation on radial bases.

    Attributes:
        dim: Coordinates of a point, 1 to 3.
        channels: Features of a kernel, 1 to 1024.
        neighbours: Kernels that a point reads, its nearest, 1 to 16.
        kernel: With u = x - c, times the extent, and the form q = u S u: "inverse_quadratic" 1 / (1 + q),
            "inverse_multiquadric" 1 / sqrt(1 + q), "gaussian" exp(-q / 2), or "tent", the product of
            max(0, 1 - s |u_d|) along all axes.
        normalise: Whether a point's kernel values are divided by their sum (which counts as a constant in derivatives).
        frequencies: Features are weighed by the sine of the kernel value times frequencies from 2^a to 2^b, evenly
            spaced in the exponent over the channels; None: by the kernel value itself.

    Raises:
        ConfigError: A value is out of its range.

    Example:
        >>> RbfShape(dim=2, channels=3, neighbours=4, frequencies=(0.0, 4.0)).sine_factors.tolist()
        [1.0, 4.0, 16.0]
    """

    dim: int
    channels: int
    neighbours: int
    kernel: str = "inverse_quadratic"
    normalise: bool = True
    frequencies: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name, value, highest in (
            ("coordinates", self.dim, 3),
            ("features", self.channels, _MOST_CHANNELS),
            ("neighbours", self.neighbours, MOST_NEIGHBOURS),
        ):
            if not 1 <= value <= highest:
                raise ConfigError(f"Radial bases have 1 to {highest} {name}, not {value}.")
        if self.kernel not in KERNELS:
            raise ConfigError(
                f"There is no radial basis {self.kernel!r}.{nearest(self.kernel, KERNELS)}"
            )
        first, last = self.frequencies or (0.0, 0.0)
        if not -_MOST_EXPONENT <= first <= last <= _MOST_EXPONENT:
            raise ConfigError(
                f"The frequencies of radial bases run from 2^a to 2^b with {-_MOST_EXPONENT} <= a <= b <= "
                f"{_MOST_EXPONENT}, not from a = {first} to b = {last}."
            )

    @property
    def entries(self) -> int:
        """Numbers that a kernel's shape has."""
        return 1 if self.kernel == "tent" else self.dim * (self.dim + 1) // 2

    @cached_property
    def sine_factors(self) -> Float[Tensor, " F"] | None:
        """What kernel values are multiplied by under the sine, for each channel."""
        if self.frequencies is None:
            return None
        with torch.device("cpu"):
            return torch.logspace(*self.frequencies, self.channels, base=2.0)

    @cached_property
    def key(self) -> str:
        """JSON text that stands for this shape where only plain values can pass: see `shape_of`."""
        return json.dumps(asdict(self))


@cache
def shape_of(key: str) -> RbfShape:
    """Return the shape whose `key` this is."""
    data = json.loads(key)
    pair = data.pop("frequencies")
    return RbfShape(**data, frequencies=None if pair is None else (pair[0], pair[1]))
