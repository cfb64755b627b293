"""Going backwards through a radiance field at some of the samples of a trace.

A trace evaluates a field without a graph. Once the loss has said what each sample's density and colour are worth, the
field is evaluated again, with a graph, at the samples that were chosen to matter.
"""

import threading

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polyfield import native
from polyfield.fields.ops.rows import take_rows
from polyfield.fields.point_field import native_conditions, point_field
from polyfield.fields.radiance import RadianceField
from polyfield.fields.samples import Samples

__all__ = ["replay", "replay_reference"]


def replay(
    field: RadianceField,
    samples: Samples,
    kept: Int[Tensor, " M"],
    weights: Float[Tensor, " M"],
    sigma_gradient: Float[Tensor, " N"],
    color_gradient: Float[Tensor, "N 3"],
    encoded: Float[Tensor, "F N"] | None = None,
) -> None:
    """Add to the gradients of a field's parameters.

    Args:
        field: Its parameters' `grad`, or their sparse gradients, are added to.
        samples: N of them.
        kept: Which of them count, rising.
        weights: Factor on what each of these contributes.
        sigma_gradient, color_gradient: Of the loss, with respect to each sample's density and colour.
        encoded: What the encoder gives at the samples, where that is known already: it is not asked again.
    """
    if not len(kept):
        return
    points = point_field(field)
    if points is None or not native.usable(sigma_gradient, color_gradient, samples.positions):
        replay_reference(field, samples, kept, weights, sigma_gradient, color_gradient)
        return
    player = getattr(_players, "player", None)
    if player is None:
        player = _players.player = native.core().Replay()
    with torch.no_grad():
        conditions = field.conditions(samples.directions)
    networks = [_weights(field.density_head), _weights(field.color_head)]
    gradients = [torch.empty_like(w) for w in networks]
    tensors = (samples.positions, samples.ray_ids, sigma_gradient, color_gradient, kept, weights)
    positions, rays, to_sigma, to_color, rows, factors = (t.detach().contiguous() for t in tensors)
    player.run(
        points,
        positions.data_ptr(),
        rays.data_ptr(),
        0 if encoded is None else encoded.data_ptr(),
        to_sigma.data_ptr(),
        to_color.data_ptr(),
        len(samples),
        native_conditions(conditions),
        rows.data_ptr(),
        factors.data_ptr(),
        len(rows),
        *(gradient.data_ptr() for gradient in gradients),
    )
    for parameter, gradient in zip(networks, gradients, strict=True):
        parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)


def replay_reference(
    field: RadianceField,
    samples: Samples,
    kept: Int[Tensor, " M"],
    weights: Float[Tensor, " M"],
    sigma_gradient: Float[Tensor, " N"],
    color_gradient: Float[Tensor, "N 3"],
) -> None:
    """Compute `replay` by autograd, for any field."""
    subset = samples.take(kept, samples.ray_offsets)
    with torch.no_grad():
        to_sigma, to_color = take_rows(kept, sigma_gradient, color_gradient)
        to_sigma, to_color = to_sigma * weights, to_color * weights[:, None]
    with torch.enable_grad():
        sigma, features = field.density(subset.positions)
        color = field.color(subset, features)
        # Two sums whose gradients are these. Handing them to autograd itself is as quick, but the first time it
        # imports a computer algebra system, for half a second.
        towards = torch.dot(sigma, to_sigma)
        towards = towards + torch.dot(color.reshape(-1), to_color.reshape(-1))
        towards.backward()


_players = threading.local()  # one for each thread: it keeps its workspaces between calls


def _weights(head: torch.nn.Module) -> Tensor:
    (weights,) = head.parameters()  # a head with a native network has one flat parameter
    return weights
