"""Layout of products of small grids: which grids there are, over which axes, and where their vertices lie."""

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache, cached_property

import torch
from jaxtyping import UInt8
from torch import Tensor

from polyfield.errors import ConfigError

__all__ = ["Factor", "FactorLayout", "layout_of"]

_MOST_AXES, _MOST_FACTORS, _MOST_GROUPS, _MOST_DIM = 3, 6, 64, 4
_MOST_ROWS = 2**31 - 1  # of a factor: kernels count them in 32 bits


@dataclass(frozen=True)
class Factor:
    """A grid over some of the axes, with vertices on the borders of [0, 1].

    Attributes:
        axes: Which axes, one to three, each once.
        sides: Vertices along each of them, at least 2.
    """

    axes: tuple[int, ...]
    sides: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Number of vertices."""
        return math.prod(self.sides)


@dataclass(frozen=True)
class FactorLayout:
    """Groups of factors; each group gives `channels` features, the products of what its factors interpolate.

    All vertices share one table [rows, channels]: factor after factor, within a factor the first of its axes fastest.

    Attributes:
        dim: Number of coordinates of a point, 1 to 4.
        channels: Features of a vertex, 1 to 1024.
        groups: One to 64 groups of one to six factors.

    Raises:
        ConfigError: A value is out of its range, or a factor has an axis twice or one that the points do not have.

    Example:
        >>> plane, line = Factor((0, 1), (8, 8)), Factor((2,), (8,))
        >>> layout = FactorLayout(dim=3, channels=4, groups=((plane, line),))
        >>> layout.rows, layout.out_dim
        (72, 4)
    """

    dim: int
    channels: int
    groups: tuple[tuple[Factor, ...], ...]

    def __post_init__(self) -> None:
        if not 1 <= self.dim <= _MOST_DIM:
            raise ConfigError(
                f"A product of grids takes 1 to {_MOST_DIM} coordinates, not {self.dim}."
            )
        if not 1 <= self.channels <= 1024:
            raise ConfigError(f"A product of grids has 1 to 1024 channels, not {self.channels}.")
        sizes = [len(group) for group in self.groups]
        if not 1 <= len(sizes) <= _MOST_GROUPS or not all(1 <= n <= _MOST_FACTORS for n in sizes):
            raise ConfigError(
                f"A product of grids has 1 to {_MOST_GROUPS} groups of 1 to {_MOST_FACTORS} factors, but these groups "
                f"have {sizes}."
            )
        for factor in self.factors:
            self._check(factor)

    def _check(self, factor: Factor) -> None:
        axes, sides = factor.axes, factor.sides
        if not 1 <= len(axes) <= _MOST_AXES or len(set(axes)) != len(axes):
            raise ConfigError(f"A grid runs along 1 to {_MOST_AXES} different axes, not {axes}.")
        if not all(0 <= axis < self.dim for axis in axes):
            raise ConfigError(
                f"Points have the axes 0 to {self.dim - 1}, a grid cannot run {axes}."
            )
        if len(sides) != len(axes) or not all(2 <= side <= 2**24 for side in sides):
            raise ConfigError(
                f"A grid needs 2 to 2^24 vertices along each of its {len(axes)} axes, not {sides}."
            )
        if factor.rows > _MOST_ROWS:
            raise ConfigError(f"A grid of {sides} vertices is too large: more than 2^31 in all.")

    @property
    def factors(self) -> Iterator[Factor]:
        """All factors, group after group."""
        return (factor for group in self.groups for factor in group)

    @cached_property
    def rows(self) -> int:
        """Vertices of all factors."""
        return sum(factor.rows for factor in self.factors)

    @property
    def out_dim(self) -> int:
        """Number of features."""
        return len(self.groups) * self.channels

    @cached_property
    def first_rows(self) -> tuple[int, ...]:
        """Where each factor's vertices begin in the table."""
        ends = [0]
        for factor in self.factors:
            ends.append(ends[-1] + factor.rows)
        return tuple(ends[:-1])

    @cached_property
    def packed(self) -> UInt8[Tensor, " bytes"]:
        """Factors as the kernels read them (FactorGridFactor in csrc/kernels/factor_grid.h)."""
        numbers = [number for number, group in enumerate(self.groups) for _ in group]
        rows = b"".join(
            struct.pack(
                "=q8i", row, number, len(factor.axes), *_three(factor.axes), *_three(factor.sides)
            )
            for row, number, factor in zip(self.first_rows, numbers, self.factors, strict=True)
        )
        return torch.frombuffer(bytearray(rows), dtype=torch.uint8)

    @cached_property
    def key(self) -> str:
        """JSON text that stands for this layout where only plain values can pass: see `layout_of`."""
        return json.dumps(asdict(self))


@cache
def layout_of(key: str) -> FactorLayout:
    """Return the layout whose `key` this is."""
    data = json.loads(key)
    groups = tuple(
        tuple(Factor(tuple(f["axes"]), tuple(f["sides"])) for f in group)
        for group in data["groups"]
    )
    return FactorLayout(data["dim"], data["channels"], groups)


def _three(values: tuple[int, ...]) -> tuple[int, ...]:
    return values + (0,) * (_MOST_AXES - len(values))
