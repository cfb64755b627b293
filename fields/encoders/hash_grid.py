"""Multiresolution hash grid encoder (Mueller et al. 2022)."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from polyfield import native
from polyfield.fields.ops.hash_grid import GridGeometry, active_levels, hash_grid
from polyfield.fields.ops.hash_grid_reach import entries_read
from polyfield.fields.ops.sparse_gradient import SparseGradient
from polyfield.fields.registry import ParameterGroup

__all__ = ["Config", "HashGrid", "HashGridConfig", "build"]

_INITIAL = 1e-4  # U(-1e-4, 1e-4): nearly nothing, so that the network starts from its own guess


@dataclass(frozen=True)
class HashGridConfig:
    """Config of a hash grid: see `GridGeometry` for what the values mean and may be; `grid` is its `kind`.

    Raises:
        ConfigError: A value is out of range.
    """

    levels: int = 16
    features: int = 2
    log2_table: int = 19
    base: int = 16
    finest: float = 2048.0
    growth: float | None = None
    grid: str = "hash"
    interpolation: str = "linear"
    layout: str = "tcnn"

    def __post_init__(self) -> None:
        self.geometry(
            2
        )  # what holds for every number of axes; the rest is checked when it is built

    def geometry(self, dim: int) -> GridGeometry:
        """Lay the grid out over [0, 1]^dim."""
        values = dict(vars(self))
        return GridGeometry(dim=dim, kind=values.pop("grid"), **values)


Config = HashGridConfig


class HashGrid(nn.Module):
    """Coordinates [N, D] in [0, 1] to features [N, L F], float32.

    Attributes:
        geometry: Levels, table sizes, indices.
        out_dim: L F.
        table: [E, F], the weights; initially uniform in +-1e-4.
        gradient: Where backward passes accumulate the table's gradient; `table.grad` stays None.
        max_level: Levels in use; lower it for coarse-to-fine training. Features of the others are 0.

    Example:
        >>> grid = HashGrid(GridGeometry(levels=4, log2_table=14), Generator().manual_seed(0))
        >>> grid(torch.rand(7, 3)).shape
        torch.Size([7, 8])
    """

    def __init__(self, geometry: GridGeometry, generator: Generator):
        super().__init__()
        self.geometry = geometry
        self.out_dim = geometry.out_dim
        self.max_level: int | None = None
        table = native.prefer_large_pages(torch.empty(geometry.entries, geometry.features))
        self.table = nn.Parameter(table.uniform_(-_INITIAL, _INITIAL, generator=generator))
        self.gradient = SparseGradient(self.table)

    def forward(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N LF"]:
        """Encode points: see `polyfield.fields.ops.hash_grid.hash_grid`."""
        return hash_grid(
            x, self.table, self.geometry, max_level=self.max_level, gradient=self.gradient
        )

    @torch.no_grad()
    def drop(self, cells: Bool[Tensor, "..."]) -> None:
        """Make the entries 0 that no point of some cells of [0, 1]^D reads; see `entries_read`."""
        self.table.masked_fill_(~entries_read(self.geometry, cells)[:, None], 0.0)

    def native_points(self) -> Any:
        """Make the native form for points [N, 3]: see `polyfield.fields.native_form`."""
        shape = self.geometry
        return native.core().HashGridPoints(
            shape.packed.data_ptr(),
            active_levels(shape, self.max_level),
            shape.features,
            shape.interpolation == "smoothstep",
            self.table.data_ptr(),
            self.out_dim,
            self.gradient.values.data_ptr(),
            self.gradient.touched.data_ptr(),
        )

    def groups(self) -> list[ParameterGroup]:
        """List what is trained: the table."""
        return [ParameterGroup("table", [self.table], gradient=self.gradient)]


def build(config: HashGridConfig, dim: int, generator: Generator) -> HashGrid:
    """Make the encoder for points [N, dim]."""
    return HashGrid(config.geometry(dim), generator)
