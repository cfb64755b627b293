"""Beginning a field with what another one says, without training, where the parts of the field allow that.

A grid without a network behind it can be told what it is to hold: its vertices ask the other field for densities, and
for colours in some directions, from which follow the features that its heads make these of. Where density is the sum
of the features, and colours come from elsewhere, the encoder is told what they are to add up to.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from polyfield.fields.ops.directions import even_directions
from polyfield.fields.radiance import RadianceField
from polyfield.fields.registry import Invertible, Resize, Sampled, Spanning, Summable, Summing
from polyfield.fields.samples import Samples

__all__ = ["construct"]

_DIRECTIONS = 16  # from which colours are asked for
_CHUNK = 1 << 15  # points asked about at a time
_EDGE = 0.004  # colours nearer than this to 0 and 1 are taken to be that far off: their logits have no end
_NOTHING = 1e-3  # opacity of a cell whose colour does not matter
_THIN = 0.2  # density per domain that counts as none: whether something is thinner does not show
_OPAQUE = 5.0  # optical depth of a cell behind which nothing shows: more makes no difference


@torch.no_grad()
def construct(
    student: RadianceField, teacher: RadianceField, occupied: Callable[[Tensor], Tensor]
) -> list[Resize]:
    """Tell a field what another one of the same domain says, if it can be told.

    Args:
        student: Changed where its encoder is `Sampled`, its density head `Invertible` and its colour head `Spanning`;
            or, in its density alone, where the encoder is `Summable` and the density head `Summing`.
        teacher: Pointwise.
        occupied: Says of points in [0, 1]^3 which may hold something.

    Returns:
        What was resized; empty where nothing was, or it cannot be told.
    """
    encoder, head, colors = student.encoder, student.density_head, student.color_head
    if student.gate is not None:
        return []
    if isinstance(encoder, Summable) and isinstance(head, Summing):
        encoder.sum_to(_bounds(student, teacher, head), occupied)
        return []
    told = isinstance(encoder, Sampled) and isinstance(head, Invertible)
    if not (told and student.appearance_encoder is None and isinstance(colors, Spanning)):
        return []
    directions = even_directions(_DIRECTIONS).to(torch.float32)
    conditions = student.conditions(directions)
    if conditions is None:
        return []

    def features(points: Tensor, apart: float) -> Tensor:
        parts = [some(p, apart) for p in points.split(_CHUNK)]
        return torch.cat(parts)

    def some(points: Tensor, apart: float) -> Tensor:
        # The density of a vertex is the mean around it, its colour that of the densest place.
        each, places, given = _around(teacher, points, apart)
        mean = each.mean(1)
        densest = each.argmax(1) + each.shape[1] * torch.arange(len(points))
        raw = mean.new_zeros(len(points), _DIRECTIONS, 3)
        seen = (mean * (apart * student.domain.scale) > _NOTHING).nonzero()[:, 0]
        if len(seen):
            rows = densest[seen]
            raw[seen] = _raw_colors(student, teacher, places[rows], given[rows], directions)
        outputs = torch.cat([_raw_density(student, mean)[:, None], colors.span(raw, conditions)], 1)
        inverse: Tensor = head.invert(outputs)
        return inverse

    return student.changed("encoder", encoder.sample(features, occupied))


def _bounds(
    student: RadianceField, teacher: RadianceField, head: Summing
) -> Callable[[Tensor, float], tuple[Tensor, Tensor]]:
    """Between what a student's features are to add up to, as `Summable` asks for it."""
    scale = student.domain.scale

    def bounds(points: Tensor, apart: float) -> tuple[Tensor, Tensor]:
        sigma = torch.cat([_around(teacher, p, apart)[0].mean(1) for p in points.split(_CHUNK)])
        thin, opaque = _THIN / scale, max(_OPAQUE / apart, _THIN) / scale
        total = head.total(_raw_density(student, sigma.clamp(thin, opaque))[:, None])
        least = total.masked_fill(sigma <= thin, -torch.inf)
        return least, total.masked_fill(sigma >= opaque, torch.inf)

    return bounds


def _around(
    teacher: RadianceField, points: Float[Tensor, "N 3"], apart: float
) -> tuple[Float[Tensor, "N 8"], Float[Tensor, "M 3"], Float[Tensor, "M F"]]:
    """Densities at eight places around each point of a lattice, all these places, and their features."""
    offsets = torch.cartesian_prod(*[torch.tensor([-0.25, 0.25])] * 3)
    around = (points[:, None] + apart * offsets).clamp(0.0, 1.0)
    places = teacher.domain.to_world(around.reshape(-1, 3))
    sigma, given = teacher.density(places)
    return sigma.view(len(points), -1), places, given


def _raw_density(student: RadianceField, sigma: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """What a student's density is made of."""
    value: Tensor = sigma * (student.domain.scale / student.config.density_gain)
    if student.config.density == "relu":
        return value
    value = value.clamp_min(1e-6)
    if student.config.density == "exp":
        return value.log()
    return torch.where(value > 20.0, value, value.clamp_max(20.0).expm1().log())  # softplus


def _raw_colors(
    student: RadianceField,
    teacher: RadianceField,
    places: Float[Tensor, "N 3"],
    given: Float[Tensor, "N F"],
    directions: Float[Tensor, "K 3"],
) -> Float[Tensor, "N K 3"]:
    """What a student's colours are made of at places whose features the teacher has given, in each direction."""
    count, none = len(places), places.new_zeros(len(places))
    offsets, ids = torch.tensor([0, count]), torch.zeros(count, dtype=torch.int32)
    seen = torch.stack(
        [
            teacher.color(Samples(places, none, none, offsets, ids, direction[None]), given)
            for direction in directions
        ],
        dim=1,
    )
    return torch.logit(seen, _EDGE) if student.config.color == "sigmoid" else seen
