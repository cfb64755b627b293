"""Tracing whole rays, for fields that look at all samples of a ray together.

Nothing is left out on the way: what a sample is depends on all others of its ray, also on those that cannot be seen.
"""

from dataclasses import replace

import torch
from torch import Tensor

from polyfield.fields.radiance import RadianceField
from polyfield.fields.samples import Samples
from polyfield.renderers.march import MarchSettings, march
from polyfield.renderers.occupancy import OccupancyGrid
from polyfield.renderers.trace import Rays, Traced

__all__ = ["trace_whole"]

# Samples that the field is asked for at once, and most of a ray: it would lose its farthest ones. Rays that are marched
# at once to find so many.
_MOST, _RAYS = 1 << 16, 1 << 11


@torch.no_grad()
def trace_whole(
    rays: Rays, grid: OccupancyGrid, settings: MarchSettings, field: RadianceField
) -> Traced:
    """Find all samples of rays in occupied cells, their densities and colours. No gradient flows.

    Args:
        rays: Any number.
        grid: Which cells are occupied.
        settings: Steps; its limits are not used.
        field: Says densities and colours.

    Holds:
        Rays do not know of each other: traced in parts they have the same samples, densities and colours.
    """
    settings = replace(settings, max_samples=_MOST, max_total=_MOST)
    parts: list[tuple[Samples, Tensor, Tensor]] = []
    begin = 0
    while begin < len(rays):
        some = slice(begin, begin + _RAYS)
        samples = march(
            rays.origins[some],
            rays.directions[some],
            rays.near,
            rays.far,
            grid,
            settings,
            None if rays.jitter is None else rays.jitter[some],
        )
        sigma, features = field.density(samples.positions, samples)
        parts.append((samples, sigma, field.color(samples, features)))
        begin += samples.rays
    if not parts:
        none = rays.origins.new_zeros(0)
        return Traced(_joined((), rays.directions), none, rays.origins.new_zeros(0, 3), 0)
    samples_of, sigmas, colors = zip(*parts, strict=True)
    sigma, color = torch.cat(sigmas), torch.cat(colors)
    return Traced(_joined(samples_of, rays.directions), sigma, color, len(sigma))


def _joined(parts: tuple[Samples, ...], directions: Tensor) -> Samples:
    """Put the samples of some rays behind those of the rays before them."""
    offsets = [torch.zeros(1, dtype=torch.int64)]
    ids = [torch.zeros(0, dtype=torch.int32)]
    samples = rays = 0
    for part in parts:
        offsets.append(part.ray_offsets[1:] + samples)
        ids.append(part.ray_ids + rays)
        samples, rays = samples + len(part), rays + part.rays
    positions, t0, t1 = (
        torch.cat([directions.new_zeros(empty), *(getattr(part, name) for part in parts)])
        for name, empty in (("positions", (0, 3)), ("t0", (0,)), ("t1", (0,)))
    )
    return Samples(positions, t0, t1, torch.cat(offsets), torch.cat(ids), directions)
