"""A radiance field as one native object, for code that asks for it a few thousand points at a time.

It computes what `RadianceField` computes, by the same kernels, without Python in between. Where a part offers no native
form (see `polyfield.fields.native_form`) there is no such object, and callers use the field itself.
"""

from typing import Any

import torch
from torch import Tensor

from polyfield import native
from polyfield.fields.native_form import Gradient, native_form, nowhere
from polyfield.fields.ops.density import ACTIVATIONS, LIMIT
from polyfield.fields.radiance import RadianceField

__all__ = ["native_conditions", "point_field"]


def point_field(field: RadianceField, gradient: Gradient = nowhere) -> Any | None:
    """Make the native form of a field, or None where its parts do not allow one.

    It points into the field's parameters and gradients as they are now: use it at once, and keep the field alive.

    Args:
        field: Whose.
        gradient: Where the gradients of dense tensors go.
    """
    directions = field.direction_encoder
    if directions is not None and directions.groups():  # what encodes directions must be fixed
        return None
    if not native.usable(*field.parameters()) or not native.at_once(torch.empty(0)):
        return None
    forms: list[Any] = []
    for part, name, given in (
        (field.encoder, "native_points", ()),
        (field.gate, "native_gate", (gradient,)),
        (field.density_head, "native_network", (gradient,)),
        (field.appearance_encoder, "native_points", ()),
        (field.color_head, "native_network", (gradient,)),
    ):
        forms.append(None if part is None else native_form(part, name, *given))
        if part is not None and forms[-1] is None:
            return None
    place, config = native_form(field.domain, "native_place"), field.config
    if place is None:
        return None
    return native.core().PointField(
        *place,
        *forms,
        list(ACTIVATIONS).index(config.density),
        config.color == "sigmoid",
        config.density_gain / field.domain.scale,
        LIMIT,
    )


def native_conditions(conditions: Tensor | None) -> tuple[int, int, int]:
    """Tell native code where the conditions of rays [R, C], contiguous, lie: address, R and C."""
    if conditions is None:
        return 0, 0, 0
    return conditions.data_ptr(), *conditions.shape
