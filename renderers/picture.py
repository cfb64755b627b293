"""Drawing fields of images and of the sphere: a picture is the field at the centres of its pixels."""

import torch
from jaxtyping import Float
from torch import Tensor

from polyfield.errors import ConfigError, InputError
from polyfield.fields.model import Model
from polyfield.fields.signal import Globe, Picture, SignalField

__all__ = ["draw_picture"]

_CHUNK = 1 << 17  # pixels at once
_MOST = 1 << 28  # pixels of a picture in memory
_DOMAINS: dict[str, type[Picture] | type[Globe]] = {"image": Picture, "sphere": Globe}


@torch.no_grad()
def draw_picture(
    model: Model,
    width: int,
    height: int,
    rows: slice = slice(None),
    columns: slice = slice(None),
) -> Float[Tensor, "R S C"]:
    """Draw a field at any size, or a part of that picture.

    Args:
        model: Of kind "image" or "sphere"; the latter as longitude and latitude, see `Globe`.
        width, height: In pixels.
        rows, columns: Which of them are wanted, without gaps.

    Raises:
        ConfigError: It is a model of another kind.
        InputError: The picture has no pixels, or too many.
    """
    field = model.module
    if not isinstance(field, SignalField) or model.kind not in _DOMAINS:
        raise ConfigError(
            f"A picture is drawn of an image or a sphere, not of a {model.kind} model."
        )
    points = _DOMAINS[model.kind].points
    top, bottom, _ = rows.indices(max(height, 0))
    left, right, _ = columns.indices(max(width, 0))
    across = right - left
    if not 1 <= (bottom - top) * across <= _MOST:
        raise InputError(f"A picture must have 1 to {_MOST} pixels, not {across}x{bottom - top}.")
    result = torch.empty((bottom - top) * across, field.outputs)
    for first in range(0, len(result), _CHUNK):
        last = min(first + _CHUNK, len(result))
        numbers = torch.arange(first, last)
        ids = (top + numbers // across) * width + left + numbers % across
        result[first:last] = field(points(ids, width, height))
    return result.view(bottom - top, across, -1)
