"""Radial bases: points to the features of their nearest kernels, weighed by the kernels' values.

For the K nearest kernels i of a point, phi_i their values there, divided by their sum where that is asked for:
feature f is the sum over i of w_if phi_i, or of w_if sin(m_f phi_i). Nothing of size [N, K, F] is ever made.

Axes: N points, D coordinates, M kernels, K neighbours, F features.
Source: Chen et al. 2023, "NeuRBF: A Neural Fields Representation with Adaptive Radial Basis Functions".
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.ops.floats import check_floats
from polyfield.fields.ops.rbf_shape import KERNELS, RadialBases, RbfShape, shape_of
from polyfield.fields.ops.sparse_gradient import SparseGradient, check_table
from polyfield.fields.ops.table_operation import TableOperation

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
        IndexError: There are not as many kernels as the ids name.

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
    return _operation(x, features, ids, *bases, shape.key, gradient=gradient)


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
    check_floats("rbf", **bases._asdict())
    rows = len(bases.centres)
    check_table("rbf", x, features, (rows, shape.channels), gradient)
    wanted = ((rows, shape.dim), (rows, shape.entries), (shape.dim,))
    for name, tensor, size in zip(bases._fields, bases, wanted, strict=True):
        if tensor.shape != size:
            raise ShapeError(f"rbf: {name} must be {list(size)}, but is {list(tensor.shape)}.")


def _kernel(which: str, x: Tensor, features: Tensor, *rest: Any) -> Callable[..., None]:
    *frozen, key = rest
    shape = shape_of(key)
    frequencies = shape.sine_factors
    task = native.core().RbfTask(
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
    run: Callable[..., None] = getattr(task, which)
    return run


def _reference(x: Tensor, features: Tensor, ids: Tensor, *rest: Any) -> Tensor:
    *bases, key = rest
    return rbf_reference(x, ids, features, RadialBases(*bases), shape_of(key))


_operation = TableOperation(
    "rbf",
    _kernel,
    _reference,
    width=lambda _, *rest: shape_of(rest[-1]).channels,
    tensors=("x", "features", "ids", "centres", "shapes", "extent"),
)
