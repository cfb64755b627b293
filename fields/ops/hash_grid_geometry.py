"""Where the vertices of a multiresolution grid lie and which table entries they own.

Bit-compatible with tiny-cuda-nn (levels, table sizes, indices), and with torch-ngp as a second layout whose weights are
not interchangeable with the first. Source: Mueller et al. 2022, "Instant Neural Graphics Primitives", and the
behaviour of both programs.
"""

import json
import math
import struct
from dataclasses import asdict, dataclass
from functools import cache, cached_property

import numpy as np
import torch
from torch import Tensor

from polyfield.errors import ConfigError, nearest

__all__ = ["GridGeometry", "Level", "geometry_of"]

_LAYOUTS = ("tcnn", "torch-ngp", "torch-ngp-aligned")
_KINDS = ("hash", "dense", "tiled")
_INTERPOLATIONS = ("linear", "smoothstep")
_DENSE, _HASHED, _MODULO = 0, 1, 2  # HashGridRule in csrc/math/hash_grid.h
# The largest number of vertices along an axis whose D-th power fits 32 bits; beyond it a level is hashed.
_MOST_VERTICES = {2: 65535, 3: 1625, 4: 255}
_LARGEST_LEVEL = 2**31  # entries of a dense or tiled level


@dataclass(frozen=True)
class Level:
    """One level of a grid.

    Attributes:
        offset: Its first entry in the table.
        entries: How many it owns.
        scale: Position in the lattice = scale * x + shift, in float32.
        shift: See scale.
        resolution: Vertices along an axis.
        stride: Entries from one row of vertices to the next where the level is not hashed.
        rule: 0 dense, 1 hashed (entries is a power of two), 2 dense modulo entries.
    """

    offset: int
    entries: int
    scale: float
    shift: float
    resolution: int
    stride: int
    rule: int


@dataclass(frozen=True)
class GridGeometry:
    """Shape of a multiresolution grid over [0, 1]^dim.

    Attributes:
        dim: Axes, 2 to 4.
        levels: L, 1 to 64.
        features: F per entry: 1, 2, 4 or 8.
        log2_table: A level has at most 2^log2_table entries (3 to 31; kind "hash").
        base: Vertices along an axis of the coarsest level.
        finest: The same of the finest level.
        growth: Ratio of one level's resolution to the last's; overrides `finest` when given.
        kind: "hash" (coarse levels dense), "dense" (an entry for each vertex), "tiled" (base^dim entries at most).
        interpolation: "linear" or "smoothstep".
        layout: "tcnn", "torch-ngp", or "torch-ngp-aligned" (its align_corners).

    Raises:
        ConfigError: A value is out of range.

    Example:
        >>> geometry = GridGeometry()
        >>> geometry.entries * geometry.features
        12196240
        >>> geometry.resolutions[:4]
        (16, 23, 31, 43)
    """

    dim: int = 3
    levels: int = 16
    features: int = 2
    log2_table: int = 19
    base: int = 16
    finest: float = 2048
    growth: float | None = None
    kind: str = "hash"
    interpolation: str = "linear"
    layout: str = "tcnn"

    def __post_init__(self) -> None:
        for name, wanted in (
            ("dim", (2, 3, 4)),
            ("features", (1, 2, 4, 8)),
        ):
            if getattr(self, name) not in wanted:
                raise ConfigError(
                    f"A hash grid's {name} must be one of {wanted}, but is {getattr(self, name)}."
                )
        for name, low, high in (("levels", 1, 64), ("log2_table", 3, 31), ("base", 1, 2**20)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(
                    f"A hash grid's {name} must be from {low} to {high}, but is "
                    f"{getattr(self, name)}."
                )
        for name, known in (
            ("kind", _KINDS),
            ("interpolation", _INTERPOLATIONS),
            ("layout", _LAYOUTS),
        ):
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(
                    f"A hash grid has no {name} {value!r}.{nearest(str(value), known)}"
                )
        if self.layout != "tcnn" and self.kind != "hash":
            raise ConfigError(f"The layout {self.layout!r} knows the kind 'hash' only.")
        if self.growth is None and self.finest < self.base:
            raise ConfigError(
                f"A hash grid's finest resolution must be at least its base, {self.base}, but is "
                f"{self.finest}."
            )
        if self.growth is not None and not 1 <= self.growth <= 16:
            raise ConfigError(f"A hash grid's growth must be from 1 to 16, but is {self.growth}.")
        # First roughly: levels far beyond the limit cannot even be laid out.
        finest = math.log2(self.base) + (self.levels - 1) * math.log2(self.per_level_scale)
        if not finest <= 25 or self.levels_table[-1].scale > 2**24:
            raise ConfigError(
                f"The finest level of this hash grid has about 2^{finest:.5g} vertices along an axis, "
                f"but float32 coordinates resolve at most 2^24; lower 'finest', or 'growth' where given."
            )

    @property
    def per_level_scale(self) -> float:
        """Growth from one level to the next."""
        if self.growth is not None:
            return self.growth
        if self.levels == 1:
            return 1.0
        return float((self.finest / self.base) ** (1 / (self.levels - 1)))

    @property
    def out_dim(self) -> int:
        """Features of a point: L * F."""
        return self.levels * self.features

    @property
    def entries(self) -> int:
        """Entries of all levels: rows of the table."""
        last = self.levels_table[-1]
        return last.offset + last.entries

    @property
    def offsets(self) -> tuple[int, ...]:
        """First entry of each level, and the number of all entries at the end."""
        return (*(level.offset for level in self.levels_table), self.entries)

    @property
    def scales(self) -> tuple[float, ...]:
        """Lattice units in [0, 1], per level."""
        return tuple(level.scale for level in self.levels_table)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Vertices along an axis, per level."""
        return tuple(level.resolution for level in self.levels_table)

    @cached_property
    def levels_table(self) -> tuple[Level, ...]:
        """All levels, coarse to fine."""
        found: list[Level] = []
        offset = 0
        for index in range(self.levels):
            level = self._level(index, offset)
            offset += level.entries
            found.append(level)
        return tuple(found)

    def _level(self, index: int, offset: int) -> Level:
        scale = self._scale(index)
        resolution = math.ceil(scale) + 1
        stride, shift, most = resolution, 0.5, 2**self.log2_table
        if self.layout != "tcnn":
            resolution = math.ceil(self.base * self.per_level_scale**index)
            aligned = self.layout == "torch-ngp-aligned"
            stride, shift = (resolution, 0.0) if aligned else (resolution + 1, 0.5)
            entries = _up_to_eight(min(most, stride**self.dim))
        elif self.kind == "hash":
            entries = min(_up_to_eight(stride**self.dim), most)
        elif self.kind == "dense":
            entries = _up_to_eight(stride**self.dim)
            if entries > _LARGEST_LEVEL or stride > _MOST_VERTICES[self.dim]:
                raise ConfigError(
                    f"Level {index} of this dense grid would have {stride}^{self.dim} entries; "
                    f"lower 'finest' or choose kind 'hash'."
                )
        else:
            entries = min(_up_to_eight(stride**self.dim), self.base**self.dim)
            if entries > _LARGEST_LEVEL:
                raise ConfigError(
                    f"Level {index} of this tiled grid would have {entries} entries; lower 'base'."
                )
        rule = _DENSE
        if stride**self.dim > entries or stride > _MOST_VERTICES[self.dim]:
            rule = _HASHED if self.kind == "hash" else _MODULO
        elif sum(stride ** (axis + 1) for axis in range(self.dim)) >= 2 * entries:
            rule = _MODULO  # a single entry, of a tiled grid: the last vertex passes it D times
        return Level(offset, entries, scale, shift, resolution, stride & 0xFFFFFFFF, rule)

    def _scale(self, index: int) -> float:
        """Compute base * 2^(index * log2 growth) - 1, each operation rounded to float32 as in tiny-cuda-nn."""
        f32 = np.float32
        log2_growth = f32(math.log2(f32(self.per_level_scale)))
        power = f32(2.0 ** float(f32(f32(index) * log2_growth)))
        return float(f32(f32(power * f32(self.base)) - f32(1)))

    @cached_property
    def packed(self) -> Tensor:
        """The levels as an array of HashGridLevel (csrc/math/hash_grid.h), bytes."""
        rows = b"".join(
            struct.pack("=qIIIffI", v.offset, v.entries, v.stride, v.rule, v.scale, v.shift, 0)
            for v in self.levels_table
        )
        return torch.frombuffer(bytearray(rows), dtype=torch.uint8)

    @cached_property
    def key(self) -> str:
        """JSON text that stands for this geometry where only plain values can pass: see `geometry_of`."""
        return json.dumps(asdict(self))


@cache
def geometry_of(key: str) -> GridGeometry:
    """Return the geometry whose `key` this is."""
    return GridGeometry(**json.loads(key))


def _up_to_eight(count: int) -> int:
    return -(-count // 8) * 8
