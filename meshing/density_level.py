"""Where the surface of a radiance field is: the density at which a mesh lies where pictures show it.

A density has no level of its own: it is what a field needs to be opaque over the length of a step, or of a wall. What
people call the surface is where light ends, half of it before and half behind. So rays are sent through the field, and
of many levels that one is taken which rays first meet nearest to where half of their light has gone; a level that is
met where a ray sees nothing, or not met where it sees something, counts as far off.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from polyfield.errors import DataError
from polyfield.renderers.volume import VolumeRenderer

__all__ = ["density_level"]

_LEVELS = 96
_OPAQUE, _EMPTY = 0.9, 0.1  # rays between them tell nothing: a border, or haze
_FAR_OFF = 16.0  # in steps of the renderer: farther is as wrong as missing


@torch.no_grad()
def density_level(
    renderer: VolumeRenderer, origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]
) -> float:
    """Choose the density at which the surface of a radiance field lies.

    Args:
        renderer: Of the field.
        origins, directions: Rays from where the field is looked at, world units; directions are unit vectors.

    Returns:
        Density per world length.

    Raises:
        DataError: No ray meets anything.
    """
    traced = renderer.trace(origins, directions, renderer.config.min_transmittance)
    samples, sigma = traced.samples, traced.sigma.double()
    rays, count = samples.ray_ids.long(), len(origins)
    middle = 0.5 * (samples.t0 + samples.t1).double()
    depth = sigma * (samples.t1 - samples.t0).double()
    before = depth.cumsum(0) - depth  # over all rays; less what there was before its own
    starts = samples.ray_offsets[:-1].long()
    before -= torch.cat([before, before.new_zeros(1)])[starts][rays]
    total = before.new_zeros(count).index_add_(0, rays, depth)
    opacity = -torch.expm1(-total)
    opaque, empty = opacity > _OPAQUE, opacity < _EMPTY
    if not bool(opaque.any()):
        raise DataError(
            "This field is nowhere opaque, as seen from its cameras: there is no surface to find. Give a level."
        )

    def first(there: Tensor) -> Tensor:
        """Middle of the first such sample of each ray, or infinity."""
        met = middle.new_full((count,), math.inf)
        return met.scatter_reduce_(0, rays[there], middle[there], "amin")

    seen_at = first(before + depth >= math.log(2.0))
    reach = _FAR_OFF * renderer.config.step
    light = torch.exp(-before) * -torch.expm1(-depth)  # that ends in each sample
    low, high = _range(sigma[opaque[rays]], light[opaque[rays]])
    levels = torch.linspace(math.log(low), math.log(high), _LEVELS, dtype=torch.float64).exp()
    errors = list[float]()
    for level in levels:
        met = first(sigma > level)
        wrong = (met[opaque] - seen_at[opaque]).abs().clamp(max=reach).sum()
        errors.append(float(wrong + reach * met[empty].isfinite().sum()))
    # The middle of those that are equally good: between two densities, not on one of them.
    best = levels[[error == min(errors) for error in errors]]
    return math.sqrt(float(best[0]) * float(best[-1]))


def _range(sigma: Tensor, light: Tensor) -> tuple[float, float]:
    """The densities among which the level is looked for: from half of the least one in which light ends."""
    sigma, order = sigma.sort()
    ended = light[order].cumsum(0)
    few = 0.01 * ended[-1]
    low, high = sigma[ended >= few][0], sigma[ended >= ended[-1] - few][0]
    return 0.5 * float(low), float(high)
