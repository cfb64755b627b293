"""What a batch of rays should show, what it shows, and what the difference is worth to each sample."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import huber_loss

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.ops.floats import check_floats
from polyfield.renderers.composite import check_offsets, composite
from polyfield.renderers.trace import Traced
from polyfield.training.ray_source import RayBatch

__all__ = ["Photometric", "photometric", "photometric_reference"]


@dataclass(frozen=True)
class Photometric:
    """The loss of a batch, and its gradients.

    Attributes:
        loss: Mean over rays and channels of Huber's loss, divided by its delta.
        error: Mean square.
        sigma_gradient, color_gradient: Of the loss, with respect to each sample's density and colour.
        importance: Size of these with respect to log density and to colour before a sigmoid, as the field's last layers
            see them.
    """

    loss: float
    error: float
    sigma_gradient: Float[Tensor, " N"]
    color_gradient: Float[Tensor, "N 3"]
    importance: Float[Tensor, " N"]


def photometric(
    traced: Traced, batch: RayBatch, background: Float[Tensor, "R 3"], delta: float
) -> Photometric:
    """Compare rays with the pixels they were drawn for.

    Args:
        traced: Samples of the batch's rays, in order.
        batch: The rays. Those of weight 0 do not count; means are over the others.
        background: Behind the samples, and behind the pixel where it is transparent.
        delta: Where the loss turns from square to linear.

    Raises:
        ShapeError: The batch is not that of the trace, or numbers are not floats of one kind.
    """
    samples = traced.samples
    _check(traced, batch, background)
    tensors = [
        *(traced.sigma, traced.color, samples.t0, samples.t1, samples.ray_offsets, background),
        *(batch.color, batch.alpha, *([] if batch.weights is None else [batch.weights])),
    ]
    if not native.usable(*tensors):
        return photometric_reference(traced, batch, background, delta)
    tensors = [t.contiguous() for t in tensors]
    places = [t.data_ptr() for t in tensors]
    to_sigma, to_color = torch.empty_like(tensors[0]), torch.empty_like(tensors[1])
    importance = torch.empty_like(tensors[0])
    loss, error = native.worker("Photometric").run(
        places[:6],
        len(batch),
        *places[6:8],
        0 if batch.weights is None else places[8],
        delta,
        *(t.data_ptr() for t in (to_sigma, to_color, importance)),
    )
    return Photometric(loss, error, to_sigma, to_color, importance)


def photometric_reference(
    traced: Traced, batch: RayBatch, background: Float[Tensor, "R 3"], delta: float
) -> Photometric:
    """Compute `photometric` by autograd."""
    samples = traced.samples
    sigma, color = (x.detach().requires_grad_() for x in (traced.sigma, traced.color))
    target = batch.color + (1.0 - batch.alpha[:, None]) * background
    with torch.enable_grad():
        seen = composite(
            sigma, color, samples.t0, samples.t1, samples.ray_offsets, background
        ).color
        weights = torch.ones_like(batch.alpha) if batch.weights is None else batch.weights
        counted = weights.sum().clamp_min(1.0) * 3
        each = huber_loss(seen, target, delta=delta, reduction="none") * weights[:, None]
        loss = each.sum() / counted / delta
        to_sigma, to_color = torch.autograd.grad(loss, (sigma, color))
    with torch.no_grad():
        squares = (seen - target).square() * weights[:, None]
        towards_raw = to_color * color * (1.0 - color)
        importance = (to_sigma * sigma).abs() + towards_raw.abs().sum(-1)
    return Photometric(
        float(loss.detach()), float(squares.sum() / counted), to_sigma, to_color, importance
    )


def _check(traced: Traced, batch: RayBatch, background: Tensor) -> None:
    samples = traced.samples
    rays, count = samples.rays, len(samples)
    wanted = [
        ("sigma", traced.sigma, (count,)),
        ("color", traced.color, (count, 3)),
        ("t0", samples.t0, (count,)),
        ("t1", samples.t1, (count,)),
        ("background", background, (rays, 3)),
        ("the batch's color", batch.color, (rays, 3)),
        ("the batch's alpha", batch.alpha, (rays,)),
    ]
    if batch.weights is not None:
        wanted.append(("the batch's weights", batch.weights, (rays,)))
    for name, tensor, shape in wanted:
        if tensor.shape != shape or tensor.dtype != traced.sigma.dtype:
            raise ShapeError(
                f"photometric: {name} must be {traced.sigma.dtype} {list(shape)} here, but is "
                f"{tensor.dtype} {list(tensor.shape)}."
            )
    check_floats("photometric", sigma=traced.sigma)  # the others are of the same kind
    if samples.ray_offsets.shape != (rays + 1,):
        raise ShapeError(
            f"photometric: ray_offsets must be [{rays + 1}] for the rays there are, but is "
            f"{list(samples.ray_offsets.shape)}."
        )
    check_offsets("photometric", samples.ray_offsets, count)
