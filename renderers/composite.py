"""Compositing: from the densities and colours of samples to the colours of rays, front to back.

Axes: N samples packed ray after ray, R rays (see `polyfield.fields.samples`). Densities are 1 / world length.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.ops.floats import check_floats

__all__ = [
    "Composite",
    "check_offsets",
    "composite",
    "composite_reference",
    "visible",
    "visible_reference",
]


@dataclass(frozen=True)
class Composite:
    """What R rays show.

    Attributes:
        color: Colour with the background behind it, in the units of `rgb`.
        depth: Sum of weight times the middle of the interval; divide by `opacity` for a mean distance.
        opacity: Sum of the weights, in [0, 1].
        left: Transmittance behind the last sample, the weight of the background; opacity + left == 1.
        weights: How much each sample adds to its ray, in [0, 1].
    """

    color: Float[Tensor, "R 3"]
    depth: Float[Tensor, " R"]
    opacity: Float[Tensor, " R"]
    left: Float[Tensor, " R"]
    weights: Float[Tensor, " N"]


def composite(
    sigma: Float[Tensor, " N"],
    rgb: Float[Tensor, "N 3"],
    t0: Float[Tensor, " N"],
    t1: Float[Tensor, " N"],
    ray_offsets: Int[Tensor, " R1"],
    background: Float[Tensor, "R 3"],
) -> Composite:
    """Composite samples over a background.

    A sample of optical depth tau = sigma (t1 - t0), with transmittance T in front of it, weighs T (1 - exp(-tau)) and
    leaves T exp(-tau). The background weighs what the last sample leaves. Differentiable in `sigma`, `rgb` and
    `background`; the times are data.

    Args:
        sigma: Density, >= 0. Infinity is an opaque surface.
        rgb: Colour of each sample, finite.
        t0, t1: The interval of each sample; an empty one (t1 <= t0) absorbs nothing.
        ray_offsets: Samples of ray r are rows ray_offsets[r] to ray_offsets[r + 1]; int64. A ray may have none.
        background: Colour behind each ray.

    Raises:
        ShapeError: Shapes or dtypes do not fit together.

    Holds:
        Weights and `left` sum to 1; cutting a sample in two changes no ray.

    Example:
        >>> one = torch.ones(1)
        >>> shown = composite(
        ...     torch.tensor([torch.inf]), torch.ones(1, 3), 1 * one, 2 * one, torch.tensor([0, 1]), torch.zeros(1, 3)
        ... )
        >>> shown.color.tolist(), shown.depth.item(), shown.left.item()
        ([[1.0, 1.0, 1.0]], 1.5, 0.0)

    See: Max (1995), "Optical models for direct volume rendering".
    """
    _check("composite", sigma, t0, t1, ray_offsets)
    check_floats("composite", rgb=rgb, background=background)
    rays = ray_offsets.shape[0] - 1
    if rgb.shape != (sigma.shape[0], 3):
        raise ShapeError(
            f"composite: rgb must be [{sigma.shape[0]}, 3], one row for each sample, but is {list(rgb.shape)}."
        )
    if background.shape != (rays, 3):
        raise ShapeError(
            f"composite: background must be [{rays}, 3], one row for each ray, but is {list(background.shape)}."
        )
    if not native.usable(sigma, rgb, t0, t1, ray_offsets, background):
        return composite_reference(sigma, rgb, t0, t1, ray_offsets, background)
    return Composite(*torch.ops.polyfield.composite(sigma, rgb, t0, t1, ray_offsets, background))


def composite_reference(
    sigma: Float[Tensor, " N"],
    rgb: Float[Tensor, "N 3"],
    t0: Float[Tensor, " N"],
    t1: Float[Tensor, " N"],
    ray_offsets: Int[Tensor, " R1"],
    background: Float[Tensor, "R 3"],
) -> Composite:
    """Compute `composite` in plain torch: the oracle of every kernel. One padded row for each ray."""
    rows, columns, longest = _places(ray_offsets)
    rays = ray_offsets.shape[0] - 1
    tau = torch.where(t1 > t0, sigma * (t1 - t0), torch.zeros_like(sigma))
    padded = tau.new_zeros(rays, longest).index_put((rows, columns), tau)
    through = torch.cumsum(padded, 1)
    before = torch.cat([torch.zeros_like(through[:, :1]), through[:, :-1]], 1)[rows, columns]
    weights = torch.exp(-before) * -torch.expm1(-tau)
    left = torch.exp(-padded.sum(1))

    def over_rays(values: Tensor) -> Tensor:
        return values.new_zeros(rays, *values.shape[1:]).index_add(0, rows, values)

    return Composite(
        color=over_rays(weights[:, None] * rgb) + left[:, None] * background,
        depth=over_rays(weights * (0.5 * (t0 + t1))),
        opacity=over_rays(weights),
        left=left,
        weights=weights,
    )


def visible(
    sigma: Float[Tensor, " N"],
    t0: Float[Tensor, " N"],
    t1: Float[Tensor, " N"],
    ray_offsets: Int[Tensor, " R1"],
    min_transmittance: float,
    left: Float[Tensor, " R"] | None = None,
) -> Int[Tensor, " R"]:
    """Count the samples of each ray that can be seen: those with at least `min_transmittance` left in front of them.

    Args:
        sigma, t0, t1, ray_offsets: As for `composite`. No gradient flows.
        min_transmittance: In [0, 1]; 0 keeps every sample. 1e-4 is usual for pictures.
        left: What is left in front of each ray's first sample; None: all. Becomes what is left behind the last one
            that counts, so that samples can come a stretch at a time.

    Returns:
        int64: how many of each ray's samples, from its first on.

    Raises:
        ShapeError: Shapes or dtypes do not fit together.
    """
    _check("visible", sigma, t0, t1, ray_offsets)
    rays = len(ray_offsets) - 1
    if left is not None and (
        left.shape != (rays,) or left.dtype != sigma.dtype or not left.is_contiguous()
    ):
        raise ShapeError(
            f"visible: left must be contiguous {sigma.dtype} [{rays}], but is {left.dtype} {list(left.shape)}."
        )
    if not native.usable(sigma, t0, t1, ray_offsets):
        return visible_reference(sigma, t0, t1, ray_offsets, min_transmittance, left)
    sigma, t0, t1, ray_offsets = (x.detach().contiguous() for x in (sigma, t0, t1, ray_offsets))
    counts = ray_offsets.new_empty(ray_offsets.shape[0] - 1)
    native.core().composite_visible(
        *(x.data_ptr() for x in (sigma, t0, t1, ray_offsets)),
        counts.shape[0],
        min_transmittance,
        _address(left),
        counts.data_ptr(),
    )
    return counts


def visible_reference(
    sigma: Float[Tensor, " N"],
    t0: Float[Tensor, " N"],
    t1: Float[Tensor, " N"],
    ray_offsets: Int[Tensor, " R1"],
    min_transmittance: float,
    left: Float[Tensor, " R"] | None = None,
) -> Int[Tensor, " R"]:
    """Compute `visible` in plain torch."""
    rows, columns, longest = _places(ray_offsets)
    tau = torch.where(t1 > t0, sigma.detach() * (t1 - t0), torch.zeros_like(sigma))
    padded = tau.new_zeros(ray_offsets.shape[0] - 1, longest + 1)
    padded[rows, columns + 1] = tau
    through = torch.exp(-torch.cumsum(padded, 1))
    if left is not None:
        through = through * left[:, None]
    keep = through[rows, columns] >= min_transmittance
    total = torch.cat([keep.new_zeros(1, dtype=torch.int64), torch.cumsum(keep, 0)])
    counts = total[ray_offsets].diff()
    if left is not None:
        left.copy_(through.gather(1, counts[:, None])[:, 0])
    return counts


def _places(ray_offsets: Tensor) -> tuple[Tensor, Tensor, int]:
    """Ray and place along it of every sample, and the longest ray (at least 1)."""
    counts = ray_offsets.diff()
    rows = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    columns = torch.arange(len(rows), device=counts.device) - ray_offsets[:-1][rows]
    return rows, columns, max(1, int(counts.max()) if len(counts) else 0)


def check_offsets(name: str, ray_offsets: Tensor, samples: int) -> None:
    """Refuse what are not the offsets of so many samples: kernels go wherever they point.

    Args:
        name: Who asks.
        ray_offsets: Should be int64 [R + 1], start at 0, end at the number of samples and never fall.
        samples: How many there are.

    Raises:
        ShapeError: They are something else.
    """
    if ray_offsets.ndim != 1 or ray_offsets.shape[0] < 1 or ray_offsets.dtype != torch.int64:
        raise ShapeError(
            f"{name}: ray_offsets must be int64 [R + 1], but is {ray_offsets.dtype} {list(ray_offsets.shape)}."
        )
    if int(ray_offsets[0]) != 0 or int(ray_offsets[-1]) != samples:
        raise ShapeError(
            f"{name}: ray_offsets must run from 0 to the number of samples, {samples}, but runs from "
            f"{int(ray_offsets[0])} to {int(ray_offsets[-1])}."
        )
    # Compared and not subtracted: differences of wild numbers overflow.
    falls = ray_offsets[1:] < ray_offsets[:-1]
    if bool(falls.any()):
        ray = int(falls.int().argmax())
        raise ShapeError(
            f"{name}: ray_offsets must never fall, but at ray {ray} falls from {int(ray_offsets[ray])} to "
            f"{int(ray_offsets[ray + 1])}."
        )


def _check(name: str, sigma: Tensor, t0: Tensor, t1: Tensor, ray_offsets: Tensor) -> None:
    if sigma.ndim != 1 or t0.shape != sigma.shape or t1.shape != sigma.shape:
        raise ShapeError(
            f"{name}: sigma, t0 and t1 must be [N], but are {list(sigma.shape)}, {list(t0.shape)} and "
            f"{list(t1.shape)}."
        )
    check_floats(name, sigma=sigma, t0=t0, t1=t1)
    check_offsets(name, ray_offsets, sigma.shape[0])


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else int(tensor.data_ptr())


def _forward(
    sigma: Tensor, rgb: Tensor, t0: Tensor, t1: Tensor, ray_offsets: Tensor, background: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    inputs = [x.contiguous() for x in (sigma, rgb, t0, t1, ray_offsets, background)]
    rays = background.shape[0]
    new = sigma.new_empty
    color, weights = new(rays, 3), new(sigma.shape[0])
    depth, opacity, left = new(rays), new(rays), new(rays)
    outputs = (color, depth, opacity, left, weights)
    native.core().composite_forward(
        *(x.data_ptr() for x in inputs), rays, *(x.data_ptr() for x in outputs)
    )
    return outputs


def _backward(
    sigma: Tensor,
    rgb: Tensor,
    t0: Tensor,
    t1: Tensor,
    ray_offsets: Tensor,
    background: Tensor,
    weights: Tensor,
    left: Tensor,
    of_color: Tensor | None,
    of_depth: Tensor | None,
    of_opacity: Tensor | None,
    of_left: Tensor | None,
    of_weights: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = [x.contiguous() for x in (sigma, rgb, t0, t1, ray_offsets, background)]
    cotangents = [
        None if x is None else x.contiguous()
        for x in (of_color, of_depth, of_opacity, of_left, of_weights)
    ]
    weights, left = weights.contiguous(), left.contiguous()
    new = sigma.new_empty
    outputs = (new(sigma.shape), new(rgb.shape), new(background.shape))
    native.core().composite_backward(
        *(x.data_ptr() for x in inputs),
        background.shape[0],
        weights.data_ptr(),
        left.data_ptr(),
        *(_address(x) for x in cotangents),
        *(x.data_ptr() for x in outputs),
    )
    return outputs


_library = torch.library.Library("polyfield", "FRAGMENT")
_library.define(
    "composite(Tensor sigma, Tensor rgb, Tensor t0, Tensor t1, Tensor ray_offsets, Tensor background)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_library.define(
    "composite_backward(Tensor sigma, Tensor rgb, Tensor t0, Tensor t1, Tensor ray_offsets, Tensor background,"
    " Tensor weights, Tensor left, Tensor? of_color, Tensor? of_depth, Tensor? of_opacity, Tensor? of_left,"
    " Tensor? of_weights) -> (Tensor, Tensor, Tensor)"
)
_library.impl("composite", _forward, "CPU")
_library.impl("composite_backward", _backward, "CPU")


def _forward_fake(
    sigma: Tensor, rgb: Tensor, t0: Tensor, t1: Tensor, ray_offsets: Tensor, background: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    del rgb, t0, t1, ray_offsets
    ray = background.new_empty(background.shape[0])
    return (
        background.new_empty(background.shape),
        ray,
        torch.empty_like(ray),
        torch.empty_like(ray),
        sigma.new_empty(sigma.shape),
    )


def _backward_fake(
    sigma: Tensor,
    rgb: Tensor,
    t0: Tensor,
    t1: Tensor,
    ray_offsets: Tensor,
    background: Tensor,
    *rest: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    del t0, t1, ray_offsets, rest
    return (
        sigma.new_empty(sigma.shape),
        rgb.new_empty(rgb.shape),
        background.new_empty(background.shape),
    )


def _save(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]
) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs, output[4], output[3])


def _differentiate(
    ctx: torch.autograd.function.FunctionCtx, *cotangents: Tensor | None
) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # type: ignore[attr-defined]
    sigma, rgb, background = torch.ops.polyfield.composite_backward(*saved, *cotangents)
    return sigma, rgb, None, None, None, background


torch.library.register_fake("polyfield::composite", _forward_fake, lib=_library)
torch.library.register_fake("polyfield::composite_backward", _backward_fake, lib=_library)
torch.library.register_autograd(
    "polyfield::composite", _differentiate, setup_context=_save, lib=_library
)
