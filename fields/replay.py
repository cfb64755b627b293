"""Going backwards through a radiance field at some of the samples of a trace.

A trace evaluates a field and keeps nothing for going back. Once the loss has said what each sample's density and colour
are worth, the field is evaluated again at the samples that were chosen to matter, and gone through backwards.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polyfield import native
from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.native_form import DenseGradients
from polyfield.fields.ops.rows import take_rows
from polyfield.fields.point_field import native_conditions, point_field
from polyfield.fields.radiance import RadianceField
from polyfield.fields.samples import Samples

__all__ = ["replay", "replay_reference"]


@torch.enable_grad()  # some native forms read tensors that are made of parameters
def replay(
    field: RadianceField,
    samples: Samples,
    kept: Int[Tensor, " M"],
    weights: Float[Tensor, " M"],
    sigma_gradient: Float[Tensor, " N"],
    color_gradient: Float[Tensor, "N 3"],
    encoded: Float[Tensor, "E N"] | None = None,
    features_gradient: Float[Tensor, "N F"] | None = None,
) -> None:
    """Add to the gradients of a field's parameters.

    Args:
        field: Its parameters' `grad`, or their sparse gradients, are added to.
        samples: N of them.
        kept: Which of them count, rising.
        weights: Factor on what each of these contributes.
        sigma_gradient, color_gradient: Of the loss, with respect to each sample's density and colour.
        encoded: What the encoder gives at the samples, where that is known already: it is not asked again.
        features_gradient: Of the loss, with respect to each sample's features; None: it asks nothing of them.

    Raises:
        ShapeError: Shapes do not fit together, or `kept` names samples that are not there.
        ConfigError: The field looks at all samples of a ray together, and some are to be left out.
    """
    if not field.pointwise and len(kept) != len(samples):
        raise ConfigError(
            f"replay: this field looks at all samples of a ray together, so all {len(samples)} must be kept, but "
            f"{len(kept)} are: set train.roulette=1."
        )
    _check(
        field, samples, kept, weights, sigma_gradient, color_gradient, encoded, features_gradient
    )
    if not len(kept):
        return
    gradients = DenseGradients()
    points = point_field(field, gradients.room)
    floats = [sigma_gradient, color_gradient, weights, samples.positions, samples.directions]
    floats += [] if features_gradient is None else [features_gradient]
    frozen = not all(parameter.requires_grad for parameter in field.parameters())
    if points is None or frozen or not native.usable(*floats):
        replay_reference(
            field, samples, kept, weights, sigma_gradient, color_gradient, features_gradient
        )
        return
    with torch.no_grad():
        conditions = field.conditions(samples.directions)
    tensors = (samples.positions, samples.ray_ids, sigma_gradient, color_gradient, kept, weights)
    positions, rays, to_sigma, to_color, rows, factors = (t.detach().contiguous() for t in tensors)
    known, towards = (None if t is None else t.contiguous() for t in (encoded, features_gradient))
    fits = native.worker("Replay").run(
        points,
        positions.data_ptr(),
        rays.data_ptr(),
        0 if known is None else known.data_ptr(),
        to_sigma.data_ptr(),
        to_color.data_ptr(),
        0 if towards is None else towards.data_ptr(),
        len(samples),
        native_conditions(conditions),
        rows.data_ptr(),
        factors.data_ptr(),
        len(rows),
    )
    if not fits:
        raise ShapeError(
            f"replay: kept must name samples in 0..{len(samples) - 1}, of rays in 0..{samples.rays - 1}."
        )
    gradients.deliver()


def replay_reference(
    field: RadianceField,
    samples: Samples,
    kept: Int[Tensor, " M"],
    weights: Float[Tensor, " M"],
    sigma_gradient: Float[Tensor, " N"],
    color_gradient: Float[Tensor, "N 3"],
    features_gradient: Float[Tensor, "N F"] | None = None,
) -> None:
    """Compute `replay` by autograd, for any field."""
    subset = samples.take(kept, samples.ray_offsets)
    with torch.no_grad():
        to_sigma, to_color = take_rows(kept, sigma_gradient, color_gradient)
        to_sigma, to_color = to_sigma * weights, to_color * weights[:, None]
    with torch.enable_grad():
        sigma, features = field.density(subset.positions, subset)
        color = field.color(subset, features)
        # Sums whose gradients are these. Handing them to autograd itself is as quick, but the first time it
        # imports a computer algebra system, for half a second.
        towards = torch.dot(sigma, to_sigma)
        towards = towards + torch.dot(color.reshape(-1), to_color.reshape(-1))
        if features_gradient is not None:
            to_features = features_gradient.index_select(0, kept) * weights[:, None]
            towards = towards + torch.dot(features.reshape(-1), to_features.reshape(-1))
        towards.backward()


def _check(
    field: RadianceField,
    samples: Samples,
    kept: Tensor,
    weights: Tensor,
    sigma_gradient: Tensor,
    color_gradient: Tensor,
    encoded: Tensor | None,
    features_gradient: Tensor | None,
) -> None:
    count = len(samples)
    wanted = [
        ("positions", samples.positions, (count, 3)),
        ("ray_ids", samples.ray_ids, (count,)),
        ("sigma_gradient", sigma_gradient, (count,)),
        ("color_gradient", color_gradient, (count, 3)),
        ("weights", weights, tuple(kept.shape[:1])),
    ]
    if encoded is not None:
        wanted.append(("encoded", encoded, (field.encoder.out_dim, count)))
    if features_gradient is not None:
        wide = (count, int(field.config.features))
        wanted.append(("features_gradient", features_gradient, wide))
    for name, tensor, shape in wanted:
        if tensor.shape != shape:
            raise ShapeError(
                f"replay: {name} must be {list(shape)} here, but is {list(tensor.shape)}."
            )
    for name, tensor, dtype in (
        ("kept", kept, torch.int64),
        ("ray_ids", samples.ray_ids, torch.int32),
    ):
        if tensor.dtype != dtype or tensor.ndim != 1:
            raise ShapeError(
                f"replay: {name} must be {dtype} in one dimension, but is {tensor.dtype} "
                f"{list(tensor.shape)}."
            )
    given = [t for t in (encoded, features_gradient) if t is not None]
    floats = [weights, sigma_gradient, color_gradient, *given]
    if any(tensor.dtype != samples.positions.dtype for tensor in floats):
        raise ShapeError(
            "replay: positions, weights, gradients and encoded must be floats of one kind."
        )
