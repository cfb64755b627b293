"""What a radiance field says of given samples: densities, colours, and what lies between."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.point_field import native_conditions, point_field
from polyfield.fields.radiance import RadianceField
from polyfield.fields.samples import Samples

__all__ = ["Evaluated", "evaluate", "evaluate_reference"]

_CHUNK = 1 << 15  # samples that a field without a native form is asked at a time


@dataclass(frozen=True)
class Evaluated:
    """What a field says of N samples.

    Attributes:
        sigma: Density per world length.
        color: sRGB in [0, 1].
        features: What the density head gives.
        encoded: What the encoder gives, where that was asked for and could be kept.
    """

    sigma: Float[Tensor, " N"]
    color: Float[Tensor, "N 3"]
    features: Float[Tensor, "N F"]
    encoded: Float[Tensor, "E N"] | None = None


@torch.no_grad()
def evaluate(field: RadianceField, samples: Samples, *, keep_encoded: bool = False) -> Evaluated:
    """Ask a field about samples. No gradient flows.

    Args:
        field: Which. One that is not pointwise is asked about whole rays: there samples must be all of each ray.
        samples: Where, and seen from where.
        keep_encoded: Whether what the encoder gives is wanted too.

    Raises:
        ShapeError: A sample names a ray that is not there.
    """
    points = point_field(field)
    if points is None or not native.usable(samples.positions, samples.directions):
        return evaluate_reference(field, samples)
    _check(samples)
    conditions = field.conditions(samples.directions)
    positions, rays = samples.positions.contiguous(), samples.ray_ids.contiguous()
    count, new = len(samples), positions.new_empty
    sigma, color, features = new(count), new(count, 3), new(count, field.config.features)
    encoded = new(field.encoder.out_dim, count) if keep_encoded else None
    fits = native.worker("Evaluation").run(
        points,
        positions.data_ptr(),
        rays.data_ptr(),
        native_conditions(conditions),
        count,
        *(part.data_ptr() for part in (sigma, color, features)),
        0 if encoded is None else encoded.data_ptr(),
    )
    if not fits:
        raise ShapeError(f"evaluate: samples must be of rays in 0..{samples.rays - 1}.")
    return Evaluated(sigma, color, features, encoded)


@torch.no_grad()
def evaluate_reference(field: RadianceField, samples: Samples) -> Evaluated:
    """Compute `evaluate` by the field's own modules, for any field."""
    _check(samples)
    whole = [samples]
    if field.pointwise:
        rows = torch.arange(len(samples)).split(_CHUNK)
        whole = [samples.take(some, samples.ray_offsets) for some in rows]
    parts = []
    for some in whole:
        sigma, features = field.density(some.positions, some)
        parts.append((sigma, field.color(some, features), features))
    return Evaluated(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _check(samples: Samples) -> None:
    count = len(samples)
    for name, tensor, shape in (
        ("positions", samples.positions, (count, 3)),
        ("ray_ids", samples.ray_ids, (count,)),
        ("directions", samples.directions, (samples.rays, 3)),
    ):
        if tensor.shape != shape:
            raise ShapeError(
                f"evaluate: {name} must be {list(shape)} here, but is {list(tensor.shape)}."
            )
    if samples.ray_ids.dtype != torch.int32:
        raise ShapeError(f"evaluate: ray_ids must be torch.int32, but is {samples.ray_ids.dtype}.")
