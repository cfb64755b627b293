"""A lattice of which only some vertices are kept: coordinates in [0, 1]^3 to features, linear in between.

Where a scene is empty its vertices are dropped and count as 0, so a lattice can be fine where there is something: the
grid of Plenoxels (Fridovich-Keil and Yu et al. 2022, section 3.1).

Axes: N points, S vertices along a side, V vertices that are kept, C channels.
"""

from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.ops.sparse_gradient import (
    SparseGradient,
    add_dense,
    asked_for,
    check_table,
    diverted,
    gradient_of_table,
)

__all__ = [
    "MOST_CHANNELS",
    "MOST_SIDE",
    "check_index",
    "lattice_points",
    "sparse_grid",
    "sparse_grid_reference",
    "take_kept",
]

MOST_SIDE = 1024
"""Vertices along a side: their number fits 32 bits."""

MOST_CHANNELS = 1024
"""Features of a vertex."""


def sparse_grid(
    x: Float[Tensor, "N 3"],
    table: Float[Tensor, "V C"],
    index: Int32[Tensor, "S S S"],
    *,
    gradient: SparseGradient | None = None,
) -> Float[Tensor, "N C"]:
    """Interpolate linearly between the 8 vertices around each point.

    The outermost vertices lie on the borders of [0, 1], as those of `factor_grid`.

    Args:
        x: In [0, 1]. Beyond, coordinates are clamped: features go on constant and the gradient there is 0. A NaN gives
            NaN features, and no gradient.
        table: A row for each kept vertex.
        index: Row of the vertex at index[z, y, x]; anything that is not in 0..V-1 means a vertex that is not kept.
        gradient: If given, backward passes add the gradient of `table` there, and `table.grad` stays as it is.

    Returns:
        Differentiable twice; a kernel gives the value and the first derivatives. Exactly 0 in a cell of which no
        vertex is kept.

    Raises:
        ShapeError: A tensor has the wrong shape, dtype or device.

    Holds:
        Where all vertices are kept it is `factor_grid` of one box. Permuting points permutes features.

    Example:
        >>> index = torch.full((2, 2, 2), -1, dtype=torch.int32)
        >>> index[0, 0, 1] = 0  # at x = 1, y = z = 0
        >>> sparse_grid(torch.tensor([[0.5, 0.0, 0.0]]), torch.tensor([[4.0]]), index).tolist()
        [[2.0]]
    """
    if x.dim() != 2 or x.shape[1] != 3:
        raise ShapeError(f"sparse_grid: x must be [N, 3], but is {list(x.shape)}.")
    check_index("sparse_grid", index, table)
    check_table("sparse_grid", x, table, (table.shape[0], table.shape[1]), gradient)
    if not native.usable(x, table):
        source = table if gradient is None else diverted(table, gradient)
        return sparse_grid_reference(x, source, index)
    values, touched = (None, None) if gradient is None else (gradient.values, gradient.touched)
    arguments = (x.contiguous(), table.contiguous(), index.contiguous(), values, touched)
    if not torch.is_grad_enabled() and native.at_once(x):
        return _features(*arguments)
    features: Tensor = torch.ops.polyfield.sparse_grid(*arguments)
    return features


def sparse_grid_reference(
    x: Float[Tensor, "N 3"], table: Float[Tensor, "V C"], index: Int32[Tensor, "S S S"]
) -> Float[Tensor, "N C"]:
    """Compute `sparse_grid` in plain torch, in the precision of its arguments."""
    side, flat = index.shape[0], index.view(-1)
    places = torch.zeros(len(x), 1, dtype=torch.int64, device=x.device)
    weights = torch.ones(len(x), 1, dtype=x.dtype, device=x.device)
    for axis in range(3):
        q = x[:, axis].clamp(0, 1) * (side - 1)
        cell = q.detach().nan_to_num(0.0).floor().clamp(max=side - 2)
        t = q - cell
        low = places + side**axis * cell.long()[:, None]
        places = torch.cat([low, low + side**axis], 1)
        weights = torch.cat([weights * (1 - t)[:, None], weights * t[:, None]], 1)
    return (weights[:, :, None] * take_kept(table, flat[places])).sum(1)


def take_kept(table: Float[Tensor, "V C"], rows: Int32[Tensor, "..."]) -> Float[Tensor, "... C"]:
    """Rows of a table, and 0 for rows that it does not have."""
    if not len(table):
        return table.new_zeros(*rows.shape, table.shape[1]) + table.sum()
    kept = (rows >= 0) & (rows < len(table))
    return torch.where(kept[..., None], table[torch.where(kept, rows, 0).long()], 0.0)


def lattice_points(places: Int32[Tensor, " M"], side: int) -> Float[Tensor, "M 3"]:
    """Where vertices of a lattice lie in [0, 1]^3, by their places in the flat index.

    Example:
        >>> lattice_points(torch.tensor([0, 1, 26]), 3).tolist()
        [[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    numbers = torch.stack([places % side, places // side % side, places // (side * side)], 1)
    return numbers.float() / (side - 1)


def check_index(operation: str, index: Tensor, table: Tensor) -> None:
    """Refuse an index that is none of a cube, or a table of other axes."""
    side = index.shape[0] if index.dim() else 0
    cube = index.dim() == 3 and len(set(index.shape)) == 1 and index.dtype == torch.int32
    if not cube or not 2 <= side <= MOST_SIDE or index.device != table.device:
        raise ShapeError(
            f"{operation}: the index must be int32 [S, S, S], S from 2 to {MOST_SIDE}, on the table's device, but is "
            f"{index.dtype} {list(index.shape)} on {index.device}."
        )
    if table.dim() != 2 or not 1 <= table.shape[1] <= MOST_CHANNELS or len(table) >= 2**31:
        raise ShapeError(
            f"{operation}: the table must be [V, C], C from 1 to {MOST_CHANNELS}, but is {list(table.shape)}."
        )


def _job(table: Tensor, index: Tensor) -> tuple[int, ...]:
    return index.shape[0], *table.shape, index.data_ptr(), table.data_ptr()


def _features(
    x: Tensor, table: Tensor, index: Tensor, values: Tensor | None, touched: Tensor | None
) -> Tensor:
    del values, touched  # for backward
    out = torch.empty(x.shape[0], table.shape[1])
    native.core().sparse_grid_forward(*_job(table, index), x.data_ptr(), x.shape[0], out.data_ptr())
    return out


def _points_gradient(
    x: Tensor,
    table: Tensor,
    index: Tensor,
    upstream: Tensor,
    values: Tensor | None,
    touched: Tensor | None,
) -> Tensor:
    del values, touched  # for backward
    out, upstream = torch.empty_like(x), upstream.contiguous()
    native.core().sparse_grid_points_gradient(
        *_job(table, index), x.data_ptr(), x.shape[0], upstream.data_ptr(), out.data_ptr()
    )
    return out


def _scatter(
    x: Tensor,
    table: Tensor,
    index: Tensor,
    upstream: Tensor,
    values: Tensor,
    touched: Tensor | None,
) -> None:
    upstream = upstream.contiguous()
    native.core().sparse_grid_scatter(
        *_job(table, index),
        x.data_ptr(),
        x.shape[0],
        upstream.data_ptr(),
        values.data_ptr(),
        0 if touched is None else touched.data_ptr(),
    )


def _table_gradient(x: Tensor, table: Tensor, index: Tensor, upstream: Tensor) -> Tensor:
    values = torch.zeros_like(table)
    _scatter(x, table, index, upstream, values, None)
    return values


_library = torch.library.Library("polyfield", "FRAGMENT")
_library.define(
    "sparse_grid(Tensor x, Tensor table, Tensor index, Tensor? values, Tensor? touched) -> Tensor"
)
_library.define(
    "sparse_grid_points_gradient(Tensor x, Tensor table, Tensor index, Tensor upstream, Tensor? values, "
    "Tensor? touched) -> Tensor"
)
_library.define(
    "sparse_grid_table_gradient(Tensor x, Tensor table, Tensor index, Tensor upstream) -> Tensor"
)
_library.define(
    "sparse_grid_scatter_(Tensor x, Tensor table, Tensor index, Tensor upstream, Tensor(a!) values, "
    "Tensor(b!)? touched) -> ()"
)
_library.impl("sparse_grid", _features, "CPU")
_library.impl("sparse_grid_points_gradient", _points_gradient, "CPU")
_library.impl("sparse_grid_table_gradient", _table_gradient, "CPU")
_library.impl("sparse_grid_scatter_", _scatter, "CPU")


@torch.library.register_fake("polyfield::sparse_grid", lib=_library)
def _(x, table, index, values, touched):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return x.new_empty(x.shape[0], table.shape[1])


@torch.library.register_fake("polyfield::sparse_grid_points_gradient", lib=_library)
def _(x, table, index, upstream, values, touched):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return torch.empty_like(x)


@torch.library.register_fake("polyfield::sparse_grid_table_gradient", lib=_library)
def _(x, table, index, upstream):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return torch.empty_like(table)


@torch.library.register_fake("polyfield::sparse_grid_scatter_", lib=_library)
def _(x, table, index, upstream, values, touched):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return None


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    # The sparse gradient is no saved tensor: it changes between forward and backward, and may.
    *tensors, ctx.values, ctx.touched = inputs
    ctx.save_for_backward(*tensors)


def _keep_table_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    ctx.values = ctx.touched = None
    ctx.save_for_backward(*inputs)


def _features_backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    x, table, index = ctx.saved_tensors
    ops, points = torch.ops.polyfield, None
    if asked_for(ctx, 0):
        points = ops.sparse_grid_points_gradient(x, table, index, upstream, ctx.values, ctx.touched)
    table_part = gradient_of_table(
        ctx,
        1,
        lambda: ops.sparse_grid_table_gradient(x, table, index, upstream),
        lambda: ops.sparse_grid_scatter_(x, table, index, upstream, ctx.values, ctx.touched),
    )
    return points, table_part, None, None, None


def _second(ctx: Any, by: int, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    """Differentiate the gradient to the points (by = 0) or to the table (1) by the reference: it is rarely wanted."""
    x, table, index, upstream = ctx.saved_tensors
    with torch.enable_grad():
        x, table, upstream = (saved.detach().requires_grad_() for saved in (x, table, upstream))
        features = sparse_grid_reference(x, table, index)
        (first,) = torch.autograd.grad(features, (x, table)[by], upstream, create_graph=True)
        parts = torch.autograd.grad(
            first, (x, table, upstream), cotangent, allow_unused=True, materialize_grads=True
        )
    table_part = gradient_of_table(
        ctx, 1, lambda: parts[1], lambda: add_dense(ctx.values, ctx.touched, parts[1])
    )
    return parts[0], table_part, None, parts[2]


def _points_gradient_backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    return *_second(ctx, 0, cotangent), None, None


def _table_gradient_backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    return _second(ctx, 1, cotangent)


torch.library.register_autograd(
    "polyfield::sparse_grid", _features_backward, setup_context=_keep, lib=_library
)
torch.library.register_autograd(
    "polyfield::sparse_grid_points_gradient",
    _points_gradient_backward,
    setup_context=_keep,
    lib=_library,
)
torch.library.register_autograd(
    "polyfield::sparse_grid_table_gradient",
    _table_gradient_backward,
    setup_context=_keep_table_gradient,
    lib=_library,
)
