"""Real spherical harmonics of directions, any degree.

Axes: N directions. "Degree d" means the bands l = 0 .. d - 1, so d^2 outputs, in the order
l^2 + l + m. Basis: orthonormal on the unit sphere, with the Condon-Shortley phase: signs and order
are those of tiny-cuda-nn and (on unit vectors) of Gaussian splatting. The directions are in
[-1, 1]^3 and are not normalised here; for others than unit vectors the values are those of
tiny-cuda-nn's polynomials.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from polyfield import native
from polyfield.errors import ShapeError

__all__ = ["spherical_harmonics", "spherical_harmonics_reference"]


def spherical_harmonics(directions: Float[Tensor, "N 3"], degree: int) -> Float[Tensor, "N F"]:
    """Evaluate the harmonics of bands 0 .. degree - 1, F = degree^2.

    Error in float32 against exact values of unit vectors: 4e-6 at degree 10, 3e-5 at 25, 1e-4 at
    40. Differentiable twice in the directions; a kernel gives the value and the first derivative,
    degrees up to 8 the fastest.

    Args:
        directions: Vectors, as a rule of length one; float32, or float64 (slower).
        degree: Number of bands, >= 1.

    Returns:
        Value l, m at index l^2 + l + m.

    Raises:
        ShapeError: `directions` is not [N, 3] of floats, or the degree is below 1.

    Holds:
        The squares of band l sum to (2l + 1) / (4 pi) for a unit vector.

    Example:
        >>> spherical_harmonics(torch.tensor([[0.6, 0.48, 0.64]]), 2).shape
        torch.Size([1, 4])

    See: Muller, "tiny-cuda-nn" (basis); Holmes and Featherstone (2002) on recurrences that neither
    overflow nor have poles.
    """
    _check(directions, degree)
    if native.usable(directions):
        return torch.ops.polyfield.spherical_harmonics(directions.contiguous(), degree)  # type: ignore[no-any-return]
    return spherical_harmonics_reference(directions, degree)


def spherical_harmonics_reference(
    directions: Float[Tensor, "N 3"], degree: int
) -> Float[Tensor, "N F"]:
    """Compute `spherical_harmonics` in plain torch, in the precision of the input."""
    x, y, z = directions.unbind(-1)
    columns: list[Tensor] = [x] * degree**2
    c, s = 1 + 0 * x, 0 * x  # (x + iy)^m; of the graph, so that degree 1 has a gradient too
    start = math.sqrt(1 / (4 * math.pi))  # Q_m^m, which does not depend on the direction
    for m in range(degree):
        if m > 0:
            c, s = x * c - y * s, x * s + y * c
            start *= -math.sqrt((2 * m + 1) / (2 * m))
        before = torch.zeros_like(z)
        last = torch.full_like(z, start * (math.sqrt(2) if m > 0 else 1))
        for band in range(m, degree):
            if band > m:
                rise, fall = _recurrence(band, m)
                last, before = rise * (z * last - fall * before), last
            columns[band * band + band + m] = last * c
            if m > 0:
                columns[band * band + band - m] = last * s
    return torch.stack(columns, -1)


def _recurrence(band: int, m: int) -> tuple[float, float]:
    below = (band - 1) ** 2
    return (
        math.sqrt((4 * band * band - 1) / (band * band - m * m)),
        math.sqrt((below - m * m) / (4 * below - 1)) if band > m + 1 else 0.0,
    )


def _check(directions: Tensor, degree: int) -> None:
    if directions.ndim != 2 or directions.shape[1] != 3 or not directions.is_floating_point():
        raise ShapeError(
            "spherical_harmonics: directions must be floats of shape [N, 3], "
            f"but are {directions.dtype} of shape {list(directions.shape)}."
        )
    if degree < 1:
        raise ShapeError(f"spherical_harmonics: degree must be at least 1, but is {degree}.")


# The operations behind the wrapper. The gradient is one of its own, so that it can be differentiated.
_library = torch.library.Library("polyfield", "FRAGMENT")
_library.define("spherical_harmonics(Tensor directions, int degree) -> Tensor")
_library.define(
    "spherical_harmonics_backward(Tensor gradient, Tensor directions, int degree) -> Tensor"
)


def _forward(directions: Tensor, degree: int) -> Tensor:
    out = directions.new_empty(directions.shape[0], degree * degree)
    native.core().spherical_harmonics_forward(
        directions.data_ptr(), out.data_ptr(), directions.shape[0], degree
    )
    return out


def _backward(gradient: Tensor, directions: Tensor, degree: int) -> Tensor:
    gradient = gradient.contiguous()
    out = torch.empty_like(directions)
    native.core().spherical_harmonics_backward(
        directions.data_ptr(), gradient.data_ptr(), out.data_ptr(), directions.shape[0], degree
    )
    return out


def _fake_forward(directions: Tensor, degree: int) -> Tensor:
    return directions.new_empty(directions.shape[0], degree * degree)


def _fake_backward(gradient: Tensor, directions: Tensor, degree: int) -> Tensor:  # noqa: ARG001
    return torch.empty_like(directions)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    *tensors, ctx.degree = inputs
    ctx.save_for_backward(*tensors)


def _gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    (directions,) = ctx.saved_tensors
    return torch.ops.polyfield.spherical_harmonics_backward(gradient, directions, ctx.degree), None


def _gradient_of_gradient(ctx: Any, cotangent: Tensor) -> tuple[Tensor, Tensor, None]:
    # In the reference: second derivatives are rare.
    gradient, directions = ctx.saved_tensors
    with torch.enable_grad():
        d, g = directions.detach().requires_grad_(), gradient.detach().requires_grad_()
        values = spherical_harmonics_reference(d, ctx.degree)
        (first,) = torch.autograd.grad(values, d, g, create_graph=True)
        to_g, to_d = torch.autograd.grad(
            first, (g, d), cotangent, allow_unused=True, materialize_grads=True
        )
    return to_g, to_d, None


_forward_name = "polyfield::spherical_harmonics"
_backward_name = "polyfield::spherical_harmonics_backward"
_library.impl("spherical_harmonics", _forward, "CPU")
_library.impl("spherical_harmonics_backward", _backward, "CPU")
torch.library.register_fake(_forward_name, _fake_forward, lib=_library)
torch.library.register_fake(_backward_name, _fake_backward, lib=_library)
torch.library.register_autograd(_forward_name, _gradient, setup_context=_keep, lib=_library)
torch.library.register_autograd(
    _backward_name, _gradient_of_gradient, setup_context=_keep, lib=_library
)
