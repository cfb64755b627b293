"""Products of small grids: coordinates in [0, 1]^D to features, each the product of what a few grids interpolate.

Lines, planes and boxes: TensoRF's vector-matrix (a plane times a line, three times) and CP (three lines) decompositions
(Chen et al. 2022), K-planes (three planes, at several scales; Fridovich-Keil et al. 2023) and dense grids (one box) are
layouts of this one operation.

Axes: N points, D coordinates, V vertices of all factors, C channels, G groups.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.ops.factor_layout import Factor, FactorLayout, layout_of
from polyfield.fields.ops.sparse_gradient import (
    SparseGradient,
    add_dense,
    asked_for,
    check_table,
    diverted,
    gradient_of_table,
)

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
    if not native.usable(x, table):
        source = table if gradient is None else diverted(table, gradient)
        return factor_grid_reference(x, source, layout)
    values, touched = (None, None) if gradient is None else (gradient.values, gradient.touched)
    arguments = (x.contiguous(), table.contiguous(), values, touched, layout.key)
    if not torch.is_grad_enabled() and native.at_once(x):
        return _features(*arguments)
    features: Tensor = torch.ops.polyfield.factor_grid(*arguments)
    return features


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


def _job(layout: FactorLayout, x: Tensor, table: Tensor) -> tuple[int, ...]:
    return (
        layout.packed.data_ptr(),
        len(layout.first_rows),
        len(layout.groups),
        layout.channels,
        layout.dim,
        x.data_ptr(),
        table.data_ptr(),
        x.shape[0],
    )


def _features(
    x: Tensor, table: Tensor, values: Tensor | None, touched: Tensor | None, key: str
) -> Tensor:
    del values, touched  # for backward
    layout = layout_of(key)
    out = torch.empty(x.shape[0], layout.out_dim)
    native.core().factor_grid_forward(*_job(layout, x, table), out.data_ptr())
    return out


def _points_gradient(
    x: Tensor,
    table: Tensor,
    upstream: Tensor,
    values: Tensor | None,
    touched: Tensor | None,
    key: str,
) -> Tensor:
    del values, touched  # for backward
    out, upstream = torch.empty_like(x), upstream.contiguous()
    native.core().factor_grid_points_gradient(
        *_job(layout_of(key), x, table), upstream.data_ptr(), out.data_ptr()
    )
    return out


def _scatter(
    x: Tensor, table: Tensor, upstream: Tensor, values: Tensor, touched: Tensor | None, key: str
) -> None:
    upstream = upstream.contiguous()
    native.core().factor_grid_scatter(
        *_job(layout_of(key), x, table),
        upstream.data_ptr(),
        values.data_ptr(),
        0 if touched is None else touched.data_ptr(),
    )


def _table_gradient(x: Tensor, table: Tensor, upstream: Tensor, key: str) -> Tensor:
    values = torch.zeros_like(table)
    _scatter(x, table, upstream, values, None, key)
    return values


_library = torch.library.Library("polyfield", "FRAGMENT")
_library.define(
    "factor_grid(Tensor x, Tensor table, Tensor? values, Tensor? touched, str key) -> Tensor"
)
_library.define(
    "factor_grid_points_gradient(Tensor x, Tensor table, Tensor upstream, Tensor? values, Tensor? touched, "
    "str key) -> Tensor"
)
_library.define(
    "factor_grid_table_gradient(Tensor x, Tensor table, Tensor upstream, str key) -> Tensor"
)
_library.define(
    "factor_grid_scatter_(Tensor x, Tensor table, Tensor upstream, Tensor(a!) values, Tensor(b!)? touched, "
    "str key) -> ()"
)
_library.impl("factor_grid", _features, "CPU")
_library.impl("factor_grid_points_gradient", _points_gradient, "CPU")
_library.impl("factor_grid_table_gradient", _table_gradient, "CPU")
_library.impl("factor_grid_scatter_", _scatter, "CPU")


@torch.library.register_fake("polyfield::factor_grid", lib=_library)
def _(x, table, values, touched, key):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return x.new_empty(x.shape[0], layout_of(key).out_dim)


@torch.library.register_fake("polyfield::factor_grid_points_gradient", lib=_library)
def _(x, table, upstream, values, touched, key):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return torch.empty_like(x)


@torch.library.register_fake("polyfield::factor_grid_table_gradient", lib=_library)
def _(x, table, upstream, key):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return torch.empty_like(table)


@torch.library.register_fake("polyfield::factor_grid_scatter_", lib=_library)
def _(x, table, upstream, values, touched, key):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return None


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    # The sparse gradient is no saved tensor: it changes between forward and backward, and may.
    *tensors, ctx.values, ctx.touched, ctx.key = inputs
    ctx.save_for_backward(*tensors)


def _keep_table_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    *tensors, ctx.key = inputs
    ctx.values = ctx.touched = None
    ctx.save_for_backward(*tensors)


def _features_backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    x, table = ctx.saved_tensors
    ops, points = torch.ops.polyfield, None
    if asked_for(ctx, 0):
        points = ops.factor_grid_points_gradient(
            x, table, upstream, ctx.values, ctx.touched, ctx.key
        )
    table_part = gradient_of_table(
        ctx,
        1,
        lambda: ops.factor_grid_table_gradient(x, table, upstream, ctx.key),
        lambda: ops.factor_grid_scatter_(x, table, upstream, ctx.values, ctx.touched, ctx.key),
    )
    return points, table_part, None, None, None


def _second(ctx: Any, by: int, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    """Differentiate the gradient to the points (by = 0) or to the table (1) by the reference: it is rarely wanted."""
    with torch.enable_grad():
        x, table, upstream = (saved.detach().requires_grad_() for saved in ctx.saved_tensors)
        features = factor_grid_reference(x, table, layout_of(ctx.key))
        (first,) = torch.autograd.grad(features, (x, table)[by], upstream, create_graph=True)
        parts = torch.autograd.grad(
            first, (x, table, upstream), cotangent, allow_unused=True, materialize_grads=True
        )
    table_part = gradient_of_table(
        ctx, 1, lambda: parts[1], lambda: add_dense(ctx.values, ctx.touched, parts[1])
    )
    return parts[0], table_part, parts[2]


def _points_gradient_backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    return *_second(ctx, 0, cotangent), None, None, None


def _table_gradient_backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    return *_second(ctx, 1, cotangent), None


torch.library.register_autograd(
    "polyfield::factor_grid", _features_backward, setup_context=_keep, lib=_library
)
torch.library.register_autograd(
    "polyfield::factor_grid_points_gradient",
    _points_gradient_backward,
    setup_context=_keep,
    lib=_library,
)
torch.library.register_autograd(
    "polyfield::factor_grid_table_gradient",
    _table_gradient_backward,
    setup_context=_keep_table_gradient,
    lib=_library,
)
