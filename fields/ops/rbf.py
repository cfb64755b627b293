"""Radial bases: points to the features of their nearest kernels, weighed by the kernels' values.

For the K nearest kernels i of a point, phi_i their values there, divided by their sum where that is asked for:
feature f is the sum over i of w_if phi_i, or of w_if sin(m_f phi_i). Nothing of size [N, K, F] is ever made.

Axes: N points, D coordinates, M kernels, K neighbours, F features.
Source: Chen et al. 2023, "NeuRBF: A Neural Fields Representation with Adaptive Radial Basis Functions".
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.ops.rbf_shape import KERNELS, RadialBases, RbfShape, shape_of
from polyfield.fields.ops.sparse_gradient import (
    SparseGradient,
    add_dense,
    asked_for,
    check_table,
    diverted,
    gradient_of_table,
)

__all__ = ["RadialBases", "RbfShape", "kernel_values", "rbf", "rbf_reference"]

_TINY = 1e-8  # beside the sum of kernel values, which may all be 0


def rbf(
    x: Float[Tensor, "N D"],
    ids: Int[Tensor, "N K"],
    features: Float[Tensor, "M F"],
    bases: RadialBases,
    shape: RbfShape,
    *,
    gradient: SparseGradient | None = None,
) -> Float[Tensor, "N F"]:
    """Sum up what the nearest kernels of points hold.

    Args:
        x: Points. A NaN gives NaN features, and no gradient.
        ids: The kernels that each reads, int32, as `Neighbours` finds them for these points.
        features: What the kernels hold.
        bases: Where they lie; no gradient goes there.
        shape: Which kernel, and how its values are used.
        gradient: If given, backward passes add the gradient of `features` there, and `features.grad` stays as it is.

    Returns:
        Differentiable twice; a kernel gives the value and the first derivatives. In derivatives, the neighbours and
        the sum that kernel values are divided by are constants, as in the source.

    Raises:
        ShapeError: A tensor has the wrong shape, dtype or device.

    Holds:
        With all kernels holding v, normalised and without sines, features are v. At a centre its kernel is 1. Permuting
        points permutes features.

    Example:
        >>> bases = RadialBases(torch.tensor([[0.0], [1.0]]), torch.ones(2, 1), torch.ones(1))
        >>> x, ids = torch.tensor([[0.25]]), torch.tensor([[0, 1]], dtype=torch.int32)
        >>> rbf(x, ids, torch.tensor([[4.0], [8.0]]), bases, RbfShape(1, 1, 2, "tent")).tolist()
        [[5.0]]
    """
    _check(x, ids, features, bases, shape, gradient)
    if not native.usable(x, features, *bases):
        source = features if gradient is None else diverted(features, gradient)
        return rbf_reference(x, ids, source, bases, shape)
    values, touched = (None, None) if gradient is None else (gradient.values, gradient.touched)
    tensors = (t.contiguous() for t in (x, features, ids, *bases))
    arguments = (*tensors, values, touched, shape.key)
    if not torch.is_grad_enabled() and native.at_once(x):
        return _features(*arguments)
    result: Tensor = torch.ops.polyfield.rbf(*arguments)
    return result


def rbf_reference(
    x: Float[Tensor, "N D"],
    ids: Int[Tensor, "N K"],
    features: Float[Tensor, "M F"],
    bases: RadialBases,
    shape: RbfShape,
) -> Float[Tensor, "N F"]:
    """Compute `rbf` in plain torch, in the precision of its arguments."""
    rows = ids.long().clamp(min=0)
    weights = kernel_values(x, ids, bases, shape)
    if shape.normalise:
        weights = weights / (weights.detach().sum(1, keepdim=True) + _TINY)
    if shape.sine_factors is None:
        return (weights[:, :, None] * features[rows]).sum(1)
    return ((weights[:, :, None] * shape.sine_factors.to(x)).sin() * features[rows]).sum(1)


def kernel_values(
    x: Float[Tensor, "N D"], ids: Int[Tensor, "N K"], bases: RadialBases, shape: RbfShape
) -> Float[Tensor, "N K"]:
    """Compute the values of kernels at points, in plain torch; not divided by their sum."""
    rows = ids.long().clamp(min=0)
    centres, shapes, extent = (part.to(x.dtype) for part in bases)
    u = (x[:, None] - centres[rows]) * extent
    if shape.kernel == "tent":
        return (1 - shapes[rows] * u.abs()).clamp(min=0).prod(2)
    upper = torch.triu_indices(shape.dim, shape.dim)
    twice = torch.where(upper[0] == upper[1], 1.0, 2.0).to(
        x
    )  # an entry beside the diagonal counts for both
    form = (shapes[rows] * twice * u[..., upper[0]] * u[..., upper[1]]).sum(2)
    if shape.kernel == "gaussian":
        return (-0.5 * form).exp()
    return 1 / (1 + form) if shape.kernel == "inverse_quadratic" else (1 + form).rsqrt()


def _check(
    x: Tensor,
    ids: Tensor,
    features: Tensor,
    bases: RadialBases,
    shape: RbfShape,
    gradient: SparseGradient | None,
) -> None:
    if x.dim() != 2 or x.shape[1] != shape.dim:
        raise ShapeError(f"rbf: x must be [N, {shape.dim}], but is {list(x.shape)}.")
    if ids.shape != (len(x), shape.neighbours) or ids.dtype != torch.int32:
        raise ShapeError(
            f"rbf: ids must be [{len(x)}, {shape.neighbours}] of int32, but is {list(ids.shape)} of {ids.dtype}."
        )
    rows = len(bases.centres)
    check_table("rbf", x, features, (rows, shape.channels), gradient)
    wanted = ((rows, shape.dim), (rows, shape.entries), (shape.dim,))
    for name, tensor, size in zip(bases._fields, bases, wanted, strict=True):
        if tensor.shape != size:
            raise ShapeError(f"rbf: {name} must be {list(size)}, but is {list(tensor.shape)}.")


def _task(key: str, x: Tensor, features: Tensor, *frozen: Tensor) -> Any:
    shape = shape_of(key)
    frequencies = shape.sine_factors
    return native.core().RbfTask(
        *(t.data_ptr() for t in (x, features, *frozen)),
        0 if frequencies is None else frequencies.data_ptr(),
        len(features),
        shape.dim,
        shape.channels,
        shape.neighbours,
        KERNELS.index(shape.kernel),
        shape.normalise,
        len(x),
    )


def _features(*arguments: Any) -> Tensor:
    *tensors, _, _, key = arguments  # the sparse gradient is for backward
    out = torch.empty(len(tensors[0]), shape_of(key).channels)
    _task(key, *tensors).forward(out.data_ptr())
    return out


def _points_gradient(*arguments: Any) -> Tensor:
    x, features, upstream, *frozen, _, _, key = arguments
    out, upstream = torch.empty_like(x), upstream.contiguous()
    _task(key, x, features, *frozen).points_gradient(upstream.data_ptr(), out.data_ptr())
    return out


def _scatter(*arguments: Any) -> None:
    x, features, upstream, *frozen, values, touched, key = arguments
    upstream = upstream.contiguous()
    _task(key, x, features, *frozen).scatter(
        upstream.data_ptr(), values.data_ptr(), 0 if touched is None else touched.data_ptr()
    )


def _table_gradient(*arguments: Any) -> Tensor:
    *tensors, key = arguments
    values = torch.zeros_like(tensors[1])
    _scatter(*tensors, values, None, key)
    return values


_FROZEN = "Tensor ids, Tensor centres, Tensor shapes, Tensor extent"
_library = torch.library.Library("polyfield", "FRAGMENT")
_library.define(
    f"rbf(Tensor x, Tensor features, {_FROZEN}, Tensor? values, Tensor? touched, str key) -> Tensor"
)
_library.define(
    f"rbf_points_gradient(Tensor x, Tensor features, Tensor upstream, {_FROZEN}, Tensor? values, Tensor? touched, "
    "str key) -> Tensor"
)
_library.define(
    f"rbf_table_gradient(Tensor x, Tensor features, Tensor upstream, {_FROZEN}, str key) -> Tensor"
)
_library.define(
    f"rbf_scatter_(Tensor x, Tensor features, Tensor upstream, {_FROZEN}, Tensor(a!) values, Tensor(b!)? touched, "
    "str key) -> ()"
)
_library.impl("rbf", _features, "CPU")
_library.impl("rbf_points_gradient", _points_gradient, "CPU")
_library.impl("rbf_table_gradient", _table_gradient, "CPU")
_library.impl("rbf_scatter_", _scatter, "CPU")


@torch.library.register_fake("polyfield::rbf", lib=_library)
def _(x, features, *rest):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return x.new_empty(x.shape[0], features.shape[1])


@torch.library.register_fake("polyfield::rbf_points_gradient", lib=_library)
def _(x, *rest):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return torch.empty_like(x)


@torch.library.register_fake("polyfield::rbf_table_gradient", lib=_library)
def _(x, features, *rest):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return torch.empty_like(features)


@torch.library.register_fake("polyfield::rbf_scatter_", lib=_library)
def _(*arguments):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return None


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    # The sparse gradient is no saved tensor: it changes between forward and backward, and may.
    *tensors, ctx.values, ctx.touched, ctx.key = inputs
    ctx.save_for_backward(*tensors)


def _keep_table_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    *tensors, ctx.key = inputs
    ctx.values = ctx.touched = None
    ctx.save_for_backward(*tensors)


_NO_FROZEN = (None,) * 4  # gradients of ids, centres, shapes, extent


def _features_backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    x, features, *frozen = ctx.saved_tensors
    ops, points = torch.ops.polyfield, None
    arguments = (x, features, upstream, *frozen)
    if asked_for(ctx, 0):
        points = ops.rbf_points_gradient(*arguments, ctx.values, ctx.touched, ctx.key)
    table = gradient_of_table(
        ctx,
        1,
        lambda: ops.rbf_table_gradient(*arguments, ctx.key),
        lambda: ops.rbf_scatter_(*arguments, ctx.values, ctx.touched, ctx.key),
    )
    return points, table, *_NO_FROZEN, None, None, None


def _second(ctx: Any, by: int, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    """Differentiate the gradient to the points (by = 0) or to the table (1) by the reference: it is rarely wanted."""
    *changing, ids, centres, shapes, extent = ctx.saved_tensors
    with torch.enable_grad():
        x, features, upstream = (saved.detach().requires_grad_() for saved in changing)
        bases = RadialBases(centres, shapes, extent)
        out = rbf_reference(x, ids, features, bases, shape_of(ctx.key))
        (first,) = torch.autograd.grad(out, (x, features)[by], upstream, create_graph=True)
        parts = torch.autograd.grad(
            first, (x, features, upstream), cotangent, allow_unused=True, materialize_grads=True
        )
    table = gradient_of_table(
        ctx, 1, lambda: parts[1], lambda: add_dense(ctx.values, ctx.touched, parts[1])
    )
    return parts[0], table, parts[2], *_NO_FROZEN


def _points_gradient_backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    return *_second(ctx, 0, cotangent), None, None, None


def _table_gradient_backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    return *_second(ctx, 1, cotangent), None


for _name, _backward, _setup in (
    ("rbf", _features_backward, _keep),
    ("rbf_points_gradient", _points_gradient_backward, _keep),
    ("rbf_table_gradient", _table_gradient_backward, _keep_table_gradient),
):
    torch.library.register_autograd(
        f"polyfield::{_name}", _backward, setup_context=_setup, lib=_library
    )
