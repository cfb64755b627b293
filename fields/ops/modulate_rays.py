"""Modulated rows whose mean and variance are those of a whole ray: of all columns of all of its samples.

What ends a layer in the radiance fields of coordinate-aware modulation (CAM; Lee et al. 2024, there a GroupNorm of one
group over samples and channels). Axes: N samples, C columns.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polyfield.errors import ShapeError

__all__ = ["modulate_rays"]

EPSILON = 1e-6  # added to variances


def modulate_rays(
    z: Float[Tensor, "N C"],
    scale: Float[Tensor, " N"],
    shift: Float[Tensor, " N"],
    rays: Int[Tensor, " N"],
) -> Float[Tensor, "N C"]:
    """Compute max(0, scale norm(z) + shift), normalising over all samples of a ray together.

    Args:
        z: Sums of a linear layer.
        scale, shift: One number for each sample.
        rays: Which ray each sample is of, from 0, in any order. All samples of a ray must be here.

    Returns:
        Differentiable any number of times. norm(z) is z without the mean over its ray's samples and columns, divided by
        sqrt(variance + 1e-6) over these.

    Raises:
        ShapeError: Tensors do not fit each other.

    Holds:
        A ray's result does not depend on other rays. A ray of one sample gives what `modulate` gives, but for epsilon.

    Example:
        >>> z, one = torch.tensor([[1.0], [3.0]]), torch.ones(2)
        >>> modulate_rays(z, one, one, torch.tensor([0, 0])).round(decimals=3).tolist()
        [[0.0], [2.0]]
    """
    count = z.shape[:1]
    if z.ndim != 2 or not z.shape[1] or not scale.shape == shift.shape == rays.shape == count:
        raise ShapeError(
            "modulate_rays: z must be [N, C] with at least one column, scale, shift and rays [N], but are "
            f"{list(z.shape)}, {list(scale.shape)}, {list(shift.shape)} and {list(rays.shape)}."
        )
    if not len(z):
        return z
    rays = rays.long()
    sizes = torch.bincount(rays).clamp(min=1).to(z.dtype) * z.shape[1]
    none = torch.zeros_like(sizes)
    mean = none.index_add(0, rays, z.sum(1)) / sizes
    centred = z - mean.index_select(0, rays)[:, None]
    variance = none.index_add(0, rays, centred.square().sum(1)) / sizes
    factor = scale * torch.rsqrt(variance + EPSILON).index_select(0, rays)
    return torch.relu(factor[:, None] * centred + shift[:, None])
