"""From a head's raw outputs to density: the first of them, activated, and 0 outside the domain."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polyfield import native
from polyfield.errors import ConfigError, ShapeError, nearest
from polyfield.fields.ops.floats import check_floats

__all__ = ["ACTIVATIONS", "LIMIT", "density", "density_reference"]

LIMIT = 15.0
"""Where "exp" stops growing: exp(15) per scene length is opaque in a millionth of it; beyond, float32 sums of optical
depth lose their meaning."""


def _exp(raw: Tensor) -> Tensor:
    return raw.clamp(max=LIMIT).exp()


# In the order of csrc/point_field.h.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": _exp,
    "softplus": nn.functional.softplus,
    "relu": nn.functional.relu,
}


def density(
    raw: Float[Tensor, "N F"], inside: Bool[Tensor, " N"], activation: str, gain: float
) -> Float[Tensor, " N"]:
    """Activate the first column.

    Args:
        raw: Outputs of a density head.
        inside: Where the field is defined; elsewhere the result and its gradient are 0.
        activation: A key of `ACTIVATIONS`. "exp" stops growing at e^15.
        gain: Factor on the result.

    Returns:
        gain * activation(raw[:, 0]), NaN where that is NaN.

    Raises:
        ConfigError: There is no such activation.
        ShapeError: `raw` is not [N, F] of floats with a first column, or `inside` not bool [N].

    Example:
        >>> density(torch.zeros(2, 3), torch.tensor([True, False]), "exp", 2.0).tolist()
        [2.0, 0.0]
    """
    if activation not in ACTIVATIONS:
        raise ConfigError(
            f"There is no density activation {activation!r}.{nearest(activation, ACTIVATIONS)}"
        )
    _check(raw, inside)
    if activation != "exp" or not native.usable(raw) or raw.stride(0) < 1:
        return density_reference(raw, inside, activation, gain)
    inside = inside.contiguous()
    if not torch.is_grad_enabled() and native.at_once(raw):
        return _forward(raw, inside, gain)
    sigma: Tensor = torch.ops.polyfield.exp_density(raw, inside, gain)
    return sigma


def density_reference(
    raw: Float[Tensor, "N F"], inside: Bool[Tensor, " N"], activation: str, gain: float
) -> Float[Tensor, " N"]:
    """Compute `density` in plain torch."""
    return torch.where(inside, ACTIVATIONS[activation](raw[:, 0]) * gain, 0.0)


def _check(raw: Tensor, inside: Tensor) -> None:
    if raw.ndim != 2 or not raw.shape[1]:
        raise ShapeError(
            f"density: raw must be [N, F] with at least one column, but is {list(raw.shape)}."
        )
    check_floats("density", raw=raw)
    if inside.shape != raw.shape[:1] or inside.dtype != torch.bool or inside.device != raw.device:
        raise ShapeError(
            f"density: inside must be bool [{raw.shape[0]}] on {raw.device}, one for each row of raw, but is "
            f"{inside.dtype} {list(inside.shape)} on {inside.device}."
        )


def _forward(raw: Tensor, inside: Tensor, gain: float) -> Tensor:
    sigma = raw.new_empty(raw.shape[0])
    native.core().exp_density(
        raw.data_ptr(), raw.stride(0), inside.data_ptr(), gain, LIMIT, len(sigma), sigma.data_ptr()
    )
    return sigma


_library = torch.library.Library("polyfield", "FRAGMENT")
_library.define("exp_density(Tensor raw, Tensor inside, float gain) -> Tensor")
_library.impl("exp_density", _forward, "CPU")


@torch.library.register_fake("polyfield::exp_density", lib=_library)  # type: ignore[untyped-decorator]
def _fake(raw: Tensor, inside: Tensor, gain: float) -> Tensor:
    del inside, gain
    return raw.new_empty(raw.shape[0])


def _save(
    ctx: torch.autograd.function.FunctionCtx,
    inputs: tuple[Tensor, Tensor, float],
    output: Tensor,
) -> None:
    ctx.save_for_backward(inputs[0], output)


def _differentiate(
    ctx: torch.autograd.function.FunctionCtx, upstream: Tensor
) -> tuple[Tensor, None, None]:
    raw, sigma = ctx.saved_tensors  # type: ignore[attr-defined]
    # d sigma / d raw is sigma itself below the limit; differentiable again through `sigma`.
    slope = torch.where(raw[:, 0] < LIMIT, sigma, 0.0)
    return nn.functional.pad((upstream * slope)[:, None], (0, raw.shape[1] - 1)), None, None


torch.library.register_autograd(
    "polyfield::exp_density", _differentiate, setup_context=_save, lib=_library
)
