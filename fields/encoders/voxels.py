"""A sparse grid of features that is refined as it learns (Plenoxels; Fridovich-Keil and Yu et al. 2022).

It begins coarse and dense. At given moments of the run it gets more vertices a side, their values interpolated from
what it had, and drops those around which nothing can be.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int32
from torch import Generator, Tensor, nn

from polyfield import native
from polyfield.errors import ConfigError, DataError
from polyfield.fields.encoders._growth import Sides, check_sides, next_side, share_of
from polyfield.fields.ops.sparse_gradient import SparseGradient
from polyfield.fields.ops.sparse_grid import (
    MOST_CHANNELS,
    MOST_SIDE,
    lattice_points,
    sparse_grid,
)
from polyfield.fields.ops.total_variation import add_total_variation
from polyfield.fields.registry import Change, ParameterGroup, Resize

__all__ = ["Config", "Voxels", "build"]

_CHUNK = 1 << 20  # points asked about, or vertices interpolated, at a time
_FINE = 128  # a growing grid asks at least this often along a side where something may be
_PARTS = 64  # of the vertices, one of which a penalty looks at


@dataclass(frozen=True)
class Config:
    """Sparse grid.

    Attributes:
        channels: Features of a vertex. 28 for Plenoxels: a density and three colours of 9 spherical harmonics.
        side: Vertices along each axis, now.
        rows: Number of vertices that are kept, now; None: all.
        sides: From which fractions of the run it has more: pairs of a fraction and a side, as [[0.2, 128]].
        first: What the first channel begins with; the others begin with 0.
        smooth_first, smooth_rest: Weights of the total variation of the first channel, and of the others.
    """

    channels: int = 28
    side: int = 64
    rows: int | None = None
    sides: Sides = ()
    first: float = 0.01
    smooth_first: float = 0.0
    smooth_rest: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= MOST_CHANNELS:
            raise ConfigError(
                f"voxels: channels must be 1 to {MOST_CHANNELS}, but is {self.channels}."
            )
        if not 2 <= self.side <= MOST_SIDE:
            raise ConfigError(f"voxels: side must be 2 to {MOST_SIDE}, but is {self.side}.")
        if self.rows is not None and not 1 <= self.rows <= self.side**3:
            raise ConfigError(
                f"voxels: rows must be 1 to side^3, {self.side**3}, or null, but is {self.rows}."
            )
        if not (self.smooth_first >= 0 and self.smooth_rest >= 0):
            raise ConfigError("voxels: smooth_first and smooth_rest must not be below 0.")
        check_sides("voxels", self.sides, MOST_SIDE)


class Voxels(nn.Module):
    """Coordinates [N, 3] in [0, 1] to features [N, C], float32: see `polyfield.fields.ops.sparse_grid`.

    A fresh one with fewer rows than vertices keeps the first ones; which are kept else is among what is saved.

    Attributes:
        config: As it is now.
        out_dim: C.
        table: [V, C], a row for each kept vertex, in the order of their places.
        index: Row of each vertex, or -1, at [z, y, x].
        vertices: Places of the kept ones in the flat index, rising.
        gradient: Where backward passes accumulate the table's gradient; `table.grad` stays None.
    """

    index: Int32[Tensor, "S S S"]
    vertices: Int32[Tensor, " V"]

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.out_dim = config.channels
        rows = config.side**3 if config.rows is None else config.rows
        table = native.prefer_large_pages(torch.empty(rows, config.channels)).zero_()
        table[:, 0] = config.first
        self.register_buffer("index", torch.empty(0, dtype=torch.int32))
        self.register_buffer("vertices", self.index, persistent=False)
        self._place(config, table, torch.arange(rows, dtype=torch.int32))
        self.register_load_state_dict_post_hook(_after_loading)  # type: ignore[no-untyped-call]

    def forward(self, x: Float[Tensor, "N 3"]) -> Float[Tensor, "N C"]:
        """Interpolate at points."""
        return sparse_grid(x, self.table, self.index, gradient=self.gradient)

    def native_points(self) -> Any | None:
        """Make the native form: see `polyfield.fields.native_form`."""
        if not self.index.is_contiguous():
            return None
        return native.core().SparseGridPoints(
            len(self.index),
            *self.table.shape,
            self.index.data_ptr(),
            self.table.data_ptr(),
            self.gradient.values.data_ptr(),
            self.gradient.touched.data_ptr(),
        )

    def groups(self) -> list[ParameterGroup]:
        """List what is trained: the table."""
        return [ParameterGroup("table", [self.table], gradient=self.gradient)]

    def regularise(self, progress: float) -> None:
        """Add the gradient of the total variation of a part of the vertices, another one each time."""
        config = self.config
        if config.smooth_first == 0.0 and config.smooth_rest == 0.0:
            return
        some = self.vertices[share_of(len(self.vertices), _PARTS, progress)]
        weights = torch.full((config.channels,), config.smooth_rest)
        weights[0] = config.smooth_first
        add_total_variation(self.gradient, self.table, self.index, some, weights)

    @torch.no_grad()
    def grow(self, progress: float, occupied: Callable[[Tensor], Tensor]) -> Change | None:
        """Refine the grid if it is time to; kept are the vertices of occupied cells and of those beside them."""
        side = next_side(self.config.sides, progress, self.config.side)
        if side is None:
            return None
        kept = self._kept(side, occupied)
        places = kept.view(-1).nonzero()[:, 0].to(torch.int32)
        if not len(places):
            return None
        table = native.prefer_large_pages(torch.empty(len(places), self.out_dim))
        nearest = torch.empty(len(places), dtype=torch.int64)
        scale, last = self.config.side, self.config.side - 1
        for begin in range(0, len(places), _CHUNK):
            some = slice(begin, begin + _CHUNK)
            points = lattice_points(places[some], side)
            table[some] = sparse_grid(points, self.table, self.index)
            x, y, z = (points * last).round().long().unbind(1)
            nearest[some] = self.index.view(-1)[x + scale * (y + scale * z)].long()
        return self._become(side, table, places, nearest)

    @torch.no_grad()
    def sample(
        self,
        features: Callable[[Tensor, float], Tensor],
        occupied: Callable[[Tensor], Tensor],
    ) -> Change:
        """Take over features at the vertices of the finest grid: see `polyfield.fields.registry.Sampled`."""
        side = max([self.config.side, *(side for _, side in self.config.sides)])
        places = self._kept(side, occupied).view(-1).nonzero()[:, 0].to(torch.int32)
        table = native.prefer_large_pages(torch.empty(len(places), self.out_dim))
        for begin in range(0, len(places), _CHUNK):
            some = slice(begin, begin + _CHUNK)
            table[some] = features(lattice_points(places[some], side), 1.0 / (side - 1))
        return self._become(side, table, places, None)

    def _become(self, side: int, table: Tensor, places: Tensor, inherited: Tensor | None) -> Change:
        """Keep these vertices of another lattice, and say so; `inherited` as `Resize.rows`."""
        old, config = self.table, {"side": side, "rows": len(places)}
        self._place(Config(**{**vars(self.config), **config}), table, places)
        return Change(config, [Resize(old, self.table, inherited, self.gradient)])

    def _place(self, config: Config, table: Tensor, places: Tensor) -> None:
        """Keep these vertices, with these values."""
        self.config = config
        index = torch.full((config.side**3,), -1, dtype=torch.int32)
        index[places.long()] = torch.arange(len(places), dtype=torch.int32)
        self.index, self.vertices = index.view((config.side,) * 3), places
        self.table = nn.Parameter(table)
        self.gradient = SparseGradient(self.table)

    def _kept(self, side: int, occupied: Callable[[Tensor], Tensor]) -> Bool[Tensor, "S S S"]:
        """Which vertices of a finer lattice are corners of cells that may hold something, or of cells beside these.

        What was dropped once stays so: only where the lattice has a vertex is it asked at all.
        """
        cells, before = side - 1, self.config.side - 1
        inside = self.index >= 0
        for axis in range(3):
            inside = inside.narrow(axis, 0, before) | inside.narrow(axis, 1, before)
        above = ((torch.arange(cells) + 0.5) * (before / cells)).long().clamp(max=before - 1)
        asked = inside[above][:, above][:, :, above].nonzero()
        found = torch.zeros(cells, cells, cells, dtype=torch.bool)
        for some in asked.split(_CHUNK):
            corner = some.flip(1).float()
            hit = torch.zeros(len(some), dtype=torch.bool)
            for offset in _offsets(max(1, round(_FINE / cells))):
                hit |= occupied((corner + offset) / cells)
            found[some.unbind(1)] = hit
        for axis in range(3):  # beside them, then from cells to their corners
            found = _widened(found, axis).narrow(axis, 1, cells) | _widened(found, axis).narrow(
                axis, 0, cells
            )
        for axis in range(3):
            found = _widened(found, axis)
        return found


def _offsets(count: int) -> Iterator[Float[Tensor, "3"]]:
    """Centres of count^3 parts of a cell."""
    places = (torch.arange(count) + 0.5) / count
    return iter(torch.cartesian_prod(places, places, places))


def _widened(mask: Tensor, axis: int) -> Tensor:
    """One longer along an axis: true where an entry or the one before it is."""
    size = list(mask.shape)
    size[axis] = 1
    edge = mask.new_zeros(size)
    return torch.cat([mask, edge], axis) | torch.cat([edge, mask], axis)


def _after_loading(module: nn.Module, _keys: Any) -> None:
    voxels: Voxels = module  # type: ignore[assignment]
    index = voxels.index.view(-1)
    places = (index != -1).nonzero()[:, 0]
    if not torch.equal(index[places], torch.arange(len(voxels.table), dtype=torch.int32)):
        raise DataError(
            f"The index of this sparse grid must number its {len(voxels.table)} kept vertices in their order, but "
            "does not; the file is broken."
        )
    voxels.vertices = places.to(torch.int32)


def build(config: Config, dim: int, generator: Generator) -> Voxels:  # noqa: ARG001
    """Make the encoder for points [N, 3].

    Raises:
        ConfigError: Points have other than 3 coordinates.
    """
    if dim != 3:
        raise ConfigError(f"voxels: points must have 3 coordinates, but have {dim}.")
    return Voxels(config)
