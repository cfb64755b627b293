"""Products of small grids: coordinates in [0, 1]^D to features, each the product of what a few grids interpolate.

Lines, planes and boxes: TensoRF's vector-matrix (a plane times a line, three times) and CP (three lines) decompositions
(Chen et al. 2022), K-planes (three planes, at several scales; Fridovich-Keil et al. 2023) and dense grids (one box) are
layouts of this one operation.

Axes: N points, D coordinates, V vertices of all factors, C channels, G groups.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.ops.factor_layout import Factor, FactorLayout, layout_of
from polyfield.fields.ops.sparse_gradient import SparseGradient, check_table
from polyfield.fields.ops.table_operation import TableOperation

__all__ = ["Factor", "FactorLayout", "factor_grid", "factor_grid_reference"]


def factor_grid(
    x: Float[Tensor, "N D"],
    table: Float[Tensor, "V C"],
    layout: FactorLayout,
    *,
    gradient: SparseGradient | None = None,
) -> Float[Tensor, "N GC"]:
    """Encode points.

    Each factor interpolates linearly between the 2, 4 or 8 vertices around the point, the outermost vertices lying on
    the borders of [0, 1] (`align_corners` of torch's grid_sample); a group multiplies its factors channel by channel;
    groups are concatenated.

    Args:
        x: In [0, 1]. Beyond, coordinates are clamped: features go on constant and the gradient there is 0. A NaN along
            an axis of a group gives that group NaN features, and no gradient.
        table: [layout.rows, layout.channels].
        layout: The grids.
        gradient: If given, backward passes add the gradient of `table` there, and `table.grad` stays as it is.

    Returns:
        Differentiable twice; a kernel gives the value and the first derivatives.

    Raises:
        ShapeError: A tensor has the wrong shape, dtype or device.

    Holds:
        With all vertices equal to v, a group of n factors gives v^n everywhere; at a vertex of all its factors it
        gives the product of their entries. Permuting points permutes features.

    Example:
        >>> layout = FactorLayout(dim=1, channels=1, groups=((Factor((0,), (3,)),),))
        >>> factor_grid(torch.tensor([[0.25]]), torch.tensor([[0.0], [4.0], [0.0]]), layout).tolist()
        [[2.0]]
    """
    if x.dim() != 2 or x.shape[1] != layout.dim:
        raise ShapeError(f"factor_grid: x must be [N, {layout.dim}], but is {list(x.shape)}.")
    check_table("factor_grid", x, table, (layout.rows, layout.channels), gradient)
    return _operation(x, table, layout.key, gradient=gradient)


def factor_grid_reference(
    x: Float[Tensor, "N D"], table: Float[Tensor, "V C"], layout: FactorLayout
) -> Float[Tensor, "N GC"]:
    """Compute `factor_grid` in plain torch, in the precision of its arguments."""
    rows = iter(layout.first_rows)
    groups = []
    for group in layout.groups:
        product = torch.ones((), dtype=table.dtype)
        for factor in group:
            product = product * _interpolated(x, table, factor, next(rows))
        groups.append(product)
    return torch.cat(groups, 1)


def _interpolated(x: Tensor, table: Tensor, factor: Factor, row: int) -> Tensor:
    rows = torch.full((len(x), 1), row, dtype=torch.int64, device=x.device)
    weights = torch.ones(len(x), 1, dtype=x.dtype, device=x.device)
    stride = 1
    for axis, side in zip(factor.axes, factor.sides, strict=True):
        q = x[:, axis].clamp(0, 1) * (side - 1)
        cell = q.detach().nan_to_num(0.0).floor().clamp(max=side - 2)
        t = q - cell
        low = rows + stride * cell.long()[:, None]
        rows = torch.cat([low, low + stride], 1)
        weights = torch.cat([weights * (1 - t)[:, None], weights * t[:, None]], 1)
        stride *= side
    return (weights[:, :, None] * table[rows]).sum(1)


def _kernel(which: str, x: Tensor, table: Tensor, key: str) -> Callable[..., None]:
    layout = layout_of(key)
    return partial(
        getattr(native.core(), f"factor_grid_{which}"),
        layout.packed.data_ptr(),
        len(layout.first_rows),
        len(layout.groups),
        layout.channels,
        layout.dim,
        x.data_ptr(),
        table.data_ptr(),
        x.shape[0],
    )


_operation = TableOperation(
    "factor_grid",
    _kernel,
    reference=lambda x, table, key: factor_grid_reference(x, table, layout_of(key)),
    width=lambda _, key: layout_of(key).out_dim,
)
