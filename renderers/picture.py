"""Drawing image fields: a picture is the field at the centres of its pixels."""

import torch
from jaxtyping import Float
from torch import Tensor

from polyfield.errors import ConfigError, InputError
from polyfield.fields.model import Model
from polyfield.fields.signal import SignalField

__all__ = ["draw_picture"]

_CHUNK = 1 << 17  # pixels at once
_MOST = 1 << 28  # pixels of a picture in memory


@torch.no_grad()
def draw_picture(model: Model, width: int, height: int) -> Float[Tensor, "H W C"]:
    """Draw an image field at any size.

    Args:
        model: Of kind "image".
        width, height: In pixels.

    Raises:
        ConfigError: It is a model of another kind.
        InputError: The picture has no pixels, or too many.
    """
    field = model.module
    if not isinstance(field, SignalField) or field.dim != 2:
        raise ConfigError(f"A picture is drawn of an image field, not of a {model.kind} model.")
    if not (width >= 1 and height >= 1 and width * height <= _MOST):
        raise InputError(f"A picture must have 1 to {_MOST} pixels, not {width}x{height}.")
    result = torch.empty(height * width, field.outputs)
    size = torch.tensor([width, height])
    for first in range(0, len(result), _CHUNK):
        ids = torch.arange(first, min(first + _CHUNK, len(result)))
        place = torch.stack([ids % width, ids // width], 1)
        result[ids[0] : ids[-1] + 1] = field((place.float() + 0.5) / size)
    return result.view(height, width, -1)
