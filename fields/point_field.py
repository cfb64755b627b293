"""A radiance field as one native object, for code that asks for it a few thousand points at a time.

It computes what `RadianceField` computes, by the same kernels, without Python in between. A domain takes part by
offering `native_place`, an encoder `native_points`, a head `native_network`; where one of them does not, there is no
such object, and callers use the field itself. So they do where a part is not what it was written as: a subclass that
computes something else, or a module with hooks or parametrizations.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from polyfield import native
from polyfield.fields.ops.density import ACTIVATIONS, LIMIT
from polyfield.fields.radiance import RadianceField

__all__ = ["native_conditions", "point_field"]


def point_field(field: RadianceField) -> Any | None:
    """Make the native form of a field, or None where its parts do not allow one.

    It points into the field's parameters and gradients as they are now: use it at once, and keep the field alive.
    """
    config, directions = field.config, field.direction_encoder
    parts = (field.domain, field.encoder, field.density_head, field.color_head)
    names = ("native_place", "native_points", "native_network", "native_network")
    # The sigmoid at the end must be the colour head's own, and what encodes directions be fixed.
    able = all(_able(part, name) for part, name in zip(parts, names, strict=True))
    if not able or config.color != "none" or (directions is not None and directions.groups()):
        return None
    if field.gate is not None or field.appearance_encoder is not None:
        return None
    if not native.usable(*field.parameters()) or not native.at_once(torch.empty(0)):
        return None
    place, points, density, color = (
        getattr(part, name)() for part, name in zip(parts, names, strict=True)
    )
    gain = config.density_gain / field.domain.scale
    activation = list(ACTIVATIONS).index(config.density)
    return native.core().PointField(*place, points, density, color, activation, gain, LIMIT)


def _able(part: Any, name: str) -> bool:
    """Whether a part offers a native form, of what it itself computes."""
    module = isinstance(part, nn.Module)
    if module and (part._forward_hooks or part._forward_pre_hooks or is_parametrized(part)):
        return False
    owners = [
        next((cls for cls in type(part).__mro__ if method in vars(cls)), None)
        for method in (name, "forward" if module else "place")
    ]
    return owners[0] is not None and owners[0] is owners[1]


def native_conditions(conditions: Tensor | None) -> tuple[int, int, int]:
    """Tell native code where the conditions of rays [R, C], contiguous, lie: address, R and C."""
    if conditions is None:
        return 0, 0, 0
    return conditions.data_ptr(), *conditions.shape
