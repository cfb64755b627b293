"""The multiresolution hash grid: coordinates in [0, 1]^D to interpolated table features.

Axes: N points, D axes, L levels, F features of an entry, E entries of all levels.
Source: Mueller et al. 2022, "Instant Neural Graphics Primitives with a Multiresolution Hash Encoding".

The torch operations hold [L F, N] (feature-major, as the kernels write it); `hash_grid` returns its transpose. An
argument `along` [N, D] turns corner weights into their derivative along it: with it the same kernels compute the
second derivatives.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.ops.hash_grid_geometry import GridGeometry, Level, geometry_of
from polyfield.fields.ops.hash_grid_reference import hash_grid_reference
from polyfield.fields.ops.sparse_gradient import (
    SparseGradient,
    asked_for,
    check_table,
    diverted,
    gradient_of_table,
)

__all__ = ["GridGeometry", "Level", "active_levels", "hash_grid", "hash_grid_reference"]


def hash_grid(
    x: Float[Tensor, "N D"],
    table: Float[Tensor, "E F"],
    geometry: GridGeometry,
    *,
    max_level: int | None = None,
    gradient: SparseGradient | None = None,
) -> Float[Tensor, "N LF"]:
    """Encode points.

    Each level interpolates the features at the 2^D vertices around the point; levels are concatenated, coarse first.

    Args:
        x: In [0, 1]. Beyond, coordinates are clamped: features go on constant and the gradient there is 0.
            A NaN gives NaN features, and no gradient.
        table: [geometry.entries, F].
        geometry: The grid.
        max_level: Levels in use, 0 to L; features of the others are zero and get no gradient.
        gradient: If given, backward passes add the gradient of `table` there, and `table.grad` stays as it is.

    Returns:
        [N, L F]; the transposed view of contiguous [L F, N]. Differentiable twice in `x`, `table` and the upstream
        gradient.

    Raises:
        ShapeError: A tensor has the wrong shape, dtype or device.

    Holds:
        Where all entries of a level are equal, its features are that entry. Permuting points permutes features.

    Example:
        >>> geometry = GridGeometry(dim=2, levels=2, features=1, base=4, finest=8)
        >>> hash_grid(torch.rand(5, 2), torch.ones(geometry.entries, 1), geometry).shape
        torch.Size([5, 2])
    """
    active = _checked(x, table, geometry, max_level, gradient)
    if not native.usable(x, table):
        source = table if gradient is None else diverted(table, gradient)
        return hash_grid_reference(x, source, geometry, active)
    values, touched = (None, None) if gradient is None else (gradient.values, gradient.touched)
    arguments = (x.contiguous(), table.contiguous(), None, values, touched, geometry.key, active)
    if not torch.is_grad_enabled() and native.at_once(x):
        return _features(*arguments).t()
    features: Tensor = torch.ops.polyfield.hash_grid(*arguments)
    return features.t()


def _checked(
    x: Tensor,
    table: Tensor,
    geometry: GridGeometry,
    max_level: int | None,
    gradient: SparseGradient | None,
) -> int:
    if x.dim() != 2 or x.shape[1] != geometry.dim:
        raise ShapeError(f"hash_grid: x must be [N, {geometry.dim}], but is {list(x.shape)}.")
    check_table("hash_grid", x, table, (geometry.entries, geometry.features), gradient)
    return active_levels(geometry, max_level)


def active_levels(geometry: GridGeometry, max_level: int | None) -> int:
    """Say how many levels are in use.

    Raises:
        ShapeError: The grid does not have that many.
    """
    active = geometry.levels if max_level is None else max_level
    if not 0 <= active <= geometry.levels:
        raise ShapeError(
            f"hash_grid: max_level must be from 0 to {geometry.levels}, but is {max_level}."
        )
    return active


def _job(geometry: GridGeometry, active: int, x: Tensor, along: Tensor | None) -> tuple[Any, ...]:
    return (
        geometry.packed.data_ptr(),
        active,
        geometry.dim,
        geometry.features,
        geometry.interpolation == "smoothstep",
        x.shape[0],
        x.data_ptr(),
        0 if along is None else along.data_ptr(),
    )


def _upstream(upstream: Tensor) -> tuple[int, int, int]:
    return upstream.data_ptr(), upstream.stride(0), upstream.stride(1)


def _features(
    x: Tensor,
    table: Tensor,
    along: Tensor | None,
    values: Tensor | None,
    touched: Tensor | None,
    key: str,
    active: int,
) -> Tensor:
    del values, touched  # for backward
    geometry = geometry_of(key)
    out = x.new_empty(geometry.out_dim, x.shape[0])
    out[active * geometry.features :].zero_()
    native.core().hash_grid_forward(
        *_job(geometry, active, x, along), table.data_ptr(), out.data_ptr()
    )
    return out


def _points_gradient(
    x: Tensor,
    table: Tensor,
    upstream: Tensor,
    along: Tensor | None,
    values: Tensor | None,
    touched: Tensor | None,
    key: str,
    active: int,
) -> Tensor:
    del values, touched  # for backward
    out = torch.empty_like(x)
    native.core().hash_grid_points_gradient(
        *_job(geometry_of(key), active, x, along),
        table.data_ptr(),
        *_upstream(upstream),
        out.data_ptr(),
    )
    return out


def _scatter(
    x: Tensor,
    upstream: Tensor,
    along: Tensor | None,
    values: Tensor,
    touched: Tensor | None,
    key: str,
    active: int,
) -> None:
    native.core().hash_grid_scatter(
        *_job(geometry_of(key), active, x, along),
        *_upstream(upstream),
        values.data_ptr(),
        0 if touched is None else touched.data_ptr(),
    )


def _table_gradient(
    x: Tensor, upstream: Tensor, along: Tensor | None, key: str, active: int
) -> Tensor:
    geometry = geometry_of(key)
    values = x.new_zeros(geometry.entries, geometry.features)
    _scatter(x, upstream, along, values, None, key, active)
    return values


_library = torch.library.Library("polyfield", "FRAGMENT")
_library.define(
    "hash_grid(Tensor x, Tensor table, Tensor? along, Tensor? values, Tensor? touched, str key, "
    "int active) -> Tensor"
)
_library.define(
    "hash_grid_points_gradient(Tensor x, Tensor table, Tensor upstream, Tensor? along, "
    "Tensor? values, Tensor? touched, str key, int active) -> Tensor"
)
_library.define(
    "hash_grid_table_gradient(Tensor x, Tensor upstream, Tensor? along, str key, int active) "
    "-> Tensor"
)
_library.define(
    "hash_grid_scatter_(Tensor x, Tensor upstream, Tensor? along, Tensor(a!) values, "
    "Tensor(b!)? touched, str key, int active) -> ()"
)
_library.impl("hash_grid", _features, "CPU")
_library.impl("hash_grid_points_gradient", _points_gradient, "CPU")
_library.impl("hash_grid_table_gradient", _table_gradient, "CPU")
_library.impl("hash_grid_scatter_", _scatter, "CPU")


@torch.library.register_fake("polyfield::hash_grid", lib=_library)
def _(x, table, along, values, touched, key, active):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return x.new_empty(geometry_of(key).out_dim, x.shape[0])


@torch.library.register_fake("polyfield::hash_grid_points_gradient", lib=_library)
def _(x, table, upstream, along, values, touched, key, active):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return torch.empty_like(x)


@torch.library.register_fake("polyfield::hash_grid_table_gradient", lib=_library)
def _(x, upstream, along, key, active):  # type: ignore[no-untyped-def]  # noqa: ARG001
    geometry = geometry_of(key)
    return x.new_empty(geometry.entries, geometry.features)


@torch.library.register_fake("polyfield::hash_grid_scatter_", lib=_library)
def _(x, upstream, along, values, touched, key, active):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return None


def _table_part(
    ctx: Any, argument: int, x: Tensor, upstream: Tensor, along: Tensor | None
) -> Tensor | None:
    """Gradient of the table: returned, or added to the sparse gradient."""
    ops = torch.ops.polyfield
    return gradient_of_table(
        ctx,
        argument,
        lambda: ops.hash_grid_table_gradient(x, upstream, along, ctx.key, ctx.active),
        lambda: ops.hash_grid_scatter_(
            x, upstream, along, ctx.values, ctx.touched, ctx.key, ctx.active
        ),
    )


def _refuse_third(along: Tensor | None) -> None:
    if along is not None:
        raise RuntimeError(
            "hash_grid can be differentiated twice, but a third derivative was asked for; "
            "use hash_grid_reference."
        )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    # The sparse gradient is no saved tensor: it changes between forward and backward, and may.
    *tensors, ctx.values, ctx.touched, ctx.key, ctx.active = inputs
    ctx.save_for_backward(*tensors)


def _features_backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    x, table, along = ctx.saved_tensors
    _refuse_third(along)
    points = None
    if asked_for(ctx, 0):
        points = torch.ops.polyfield.hash_grid_points_gradient(
            x, table, upstream, None, ctx.values, ctx.touched, ctx.key, ctx.active
        )
    return points, _table_part(ctx, 1, x, upstream, None), None, None, None, None, None


def _points_gradient_backward(ctx: Any, along: Tensor) -> tuple[Tensor | None, ...]:
    x, table, upstream, third = ctx.saved_tensors
    _refuse_third(third)
    along = along.contiguous()
    ops, points, features = torch.ops.polyfield, None, None
    if asked_for(ctx, 0):
        points = ops.hash_grid_points_gradient(
            x, table, upstream, along, None, None, ctx.key, ctx.active
        )
    if asked_for(ctx, 2):
        features = ops.hash_grid(x, table, along, None, None, ctx.key, ctx.active)
    table_part = _table_part(ctx, 1, x, upstream, along)
    return points, table_part, features, None, None, None, None, None


def _keep_table_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    *tensors, ctx.key, ctx.active = inputs
    ctx.save_for_backward(*tensors)


def _table_gradient_backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    # <cotangent, table gradient> = <upstream, features of the cotangent as a table>.
    x, upstream, along = ctx.saved_tensors
    _refuse_third(along)
    cotangent = cotangent.contiguous()
    ops, points, features = torch.ops.polyfield, None, None
    if asked_for(ctx, 0):
        points = ops.hash_grid_points_gradient(
            x, cotangent, upstream, None, None, None, ctx.key, ctx.active
        )
    if asked_for(ctx, 1):
        features = ops.hash_grid(x, cotangent, None, None, None, ctx.key, ctx.active)
    return points, features, None, None, None


torch.library.register_autograd(
    "polyfield::hash_grid", _features_backward, setup_context=_keep, lib=_library
)
torch.library.register_autograd(
    "polyfield::hash_grid_points_gradient",
    _points_gradient_backward,
    setup_context=_keep,
    lib=_library,
)
torch.library.register_autograd(
    "polyfield::hash_grid_table_gradient",
    _table_gradient_backward,
    setup_context=_keep_table_gradient,
    lib=_library,
)
