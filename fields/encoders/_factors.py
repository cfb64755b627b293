"""The module that encoders made of products of small grids share."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polyfield import native
from polyfield.fields.ops.factor_grid import FactorLayout, factor_grid
from polyfield.fields.ops.sparse_gradient import SparseGradient
from polyfield.fields.registry import ParameterGroup

__all__ = ["FactorEncoder"]


class FactorEncoder(nn.Module):
    """Coordinates [N, D] in [0, 1] to features [N, G C], float32: see `polyfield.fields.ops.factor_grid`.

    Attributes:
        layout: Which grids are multiplied.
        out_dim: G C.
        table: [V, C], the vertices of all factors.
        gradient: Where backward passes accumulate the table's gradient; `table.grad` stays None.

    Args:
        layout: Which grids are multiplied.
        fill: Gives the vertices of a fresh table their first values, in place.
    """

    def __init__(self, layout: FactorLayout, fill: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.layout = layout
        self.out_dim = layout.out_dim
        table = native.prefer_large_pages(torch.empty(layout.rows, layout.channels))
        fill(table)
        self.table = nn.Parameter(table)
        self.gradient = SparseGradient(self.table)

    def forward(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N GC"]:
        """Encode points."""
        return factor_grid(x, self.table, self.layout, gradient=self.gradient)

    def native_points(self) -> Any:
        """Make the native encoder of points [N, 3] for `polyfield.fields.point_field`."""
        layout = self.layout
        return native.core().FactorGridPoints(
            layout.packed.data_ptr(),
            len(layout.first_rows),
            len(layout.groups),
            layout.channels,
            self.table.data_ptr(),
            self.gradient.values.data_ptr(),
            self.gradient.touched.data_ptr(),
        )

    def groups(self) -> list[ParameterGroup]:
        """List what is trained: the table."""
        return [ParameterGroup("table", [self.table], gradient=self.gradient)]
