"""Modulated rows: normalised, scaled and shifted by two numbers of each row, and cut off at 0, in one pass.

What ends a layer in coordinate-aware modulation (CAM; Lee et al. 2024). Axes: N points, C columns.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.ops.floats import check_floats

__all__ = ["modulate", "modulate_reference"]

EPSILON = 1e-5  # added to variances: modulate_epsilon in csrc/kernels/modulate.h


def modulate(
    z: Float[Tensor, "N C"],
    scale: Float[Tensor, " N"],
    shift: Float[Tensor, " N"],
    normalise: bool = True,
) -> Float[Tensor, "N C"]:
    """Compute max(0, scale norm(z) + shift).

    Args:
        z: Sums of a linear layer.
        scale: One number for each row.
        shift: One number for each row.
        normalise: Whether a row first loses its mean and is divided by sqrt(variance + 1e-5), the variance over its C
            columns; else norm(z) = z.

    Returns:
        Differentiable twice; a kernel gives the value and the first derivatives.

    Raises:
        ShapeError: Tensors are not of floats or do not fit each other.

    Holds:
        With scale 1 and shift 0 it is relu(layer_norm(z)) without affine parameters.

    Example:
        >>> modulate(torch.tensor([[1.0, 3.0]]), torch.tensor([2.0]), torch.tensor([1.0]), False).tolist()
        [[3.0, 7.0]]
    """
    if z.dim() != 2 or not z.shape[1] or scale.shape != z.shape[:1] or shift.shape != z.shape[:1]:
        raise ShapeError(
            "modulate: z must be [N, C] with at least one column, scale and shift [N], but are "
            f"{list(z.shape)}, {list(scale.shape)} and {list(shift.shape)}."
        )
    check_floats("modulate", z=z, scale=scale, shift=shift)
    if not native.usable(z, scale, shift):
        return modulate_reference(z, scale, shift, normalise)
    result: Tensor
    if not torch.is_grad_enabled() and native.at_once(z):
        result = _forward(z, scale, shift, normalise)
    else:
        result = torch.ops.polyfield.modulate(z, scale, shift, normalise)
    return result


def modulate_reference(
    z: Float[Tensor, "N C"],
    scale: Float[Tensor, " N"],
    shift: Float[Tensor, " N"],
    normalise: bool = True,
) -> Float[Tensor, "N C"]:
    """Compute `modulate` in plain torch, in the precision of its arguments."""
    if normalise:
        z = torch.nn.functional.layer_norm(z, z.shape[1:], eps=EPSILON)
    return torch.relu(scale[:, None] * z + shift[:, None])


def _job(z: Tensor, scale: Tensor, shift: Tensor, normalise: bool) -> tuple[Any, ...]:
    """Arguments of the kernel, the tensors first: they must live until it is done."""
    z = z.contiguous()
    if scale.stride() != shift.stride():
        scale, shift = scale.contiguous(), shift.contiguous()
    addresses = z.data_ptr(), z.shape[1], scale.data_ptr(), shift.data_ptr(), scale.stride(0)
    return (z, scale, shift), (*addresses, normalise, z.shape[0])


def _forward(z: Tensor, scale: Tensor, shift: Tensor, normalise: bool) -> Tensor:
    out = z.new_empty(z.shape)
    alive, job = _job(z, scale, shift, normalise)
    native.core().modulate_forward(*job, out.data_ptr())
    del alive
    return out


def _backward(
    upstream: Tensor, z: Tensor, scale: Tensor, shift: Tensor, normalise: bool
) -> tuple[Tensor, Tensor, Tensor]:
    upstream = upstream.contiguous()
    to_z, to_scale, to_shift = z.new_empty(z.shape), z.new_empty(len(z)), z.new_empty(len(z))
    alive, job = _job(z, scale, shift, normalise)
    native.core().modulate_backward(
        *job, upstream.data_ptr(), to_z.data_ptr(), to_scale.data_ptr(), to_shift.data_ptr()
    )
    del alive
    return to_z, to_scale, to_shift


_library = torch.library.Library("polyfield", "FRAGMENT")
_library.define("modulate(Tensor z, Tensor scale, Tensor shift, bool normalise) -> Tensor")
_library.define(
    "modulate_backward(Tensor upstream, Tensor z, Tensor scale, Tensor shift, bool normalise) "
    "-> (Tensor, Tensor, Tensor)"
)
_library.impl("modulate", _forward, "CPU")
_library.impl("modulate_backward", _backward, "CPU")


@torch.library.register_fake("polyfield::modulate", lib=_library)
def _(z, scale, shift, normalise):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return z.new_empty(z.shape)


@torch.library.register_fake("polyfield::modulate_backward", lib=_library)
def _(upstream, z, scale, shift, normalise):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return z.new_empty(z.shape), z.new_empty(len(z)), z.new_empty(len(z))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001
    *tensors, ctx.normalise = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    gradients = torch.ops.polyfield.modulate_backward(upstream, *ctx.saved_tensors, ctx.normalise)
    return *gradients, None


def _differentiate_twice(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
    # By the reference: second derivatives are rare.
    with torch.enable_grad():
        saved = [tensor.detach().requires_grad_() for tensor in ctx.saved_tensors]
        upstream, z, scale, shift = saved
        result = modulate_reference(z, scale, shift, ctx.normalise)
        first = torch.autograd.grad(result, (z, scale, shift), upstream, create_graph=True)
        second = torch.autograd.grad(
            first, saved, cotangents, allow_unused=True, materialize_grads=True
        )
    return *second, None


torch.library.register_autograd(
    "polyfield::modulate", _differentiate, setup_context=_keep, lib=_library
)
torch.library.register_autograd(
    "polyfield::modulate_backward", _differentiate_twice, setup_context=_keep, lib=_library
)
