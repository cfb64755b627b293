"""How surfaces look that have no colours of their own: clay, with a lamp at the eye."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["clay"]

_COLOR = (0.82, 0.80, 0.77)
_DARKEST = 0.15  # of what the lamp grazes


def clay(normals: Float[Tensor, "N 3"], directions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Give the colours of places with unit normals, of either side, that rays of unit directions see."""
    lit = (normals * directions).sum(1).abs().clamp(min=_DARKEST)
    return lit[:, None] * torch.tensor(_COLOR)
