"""Tracing rays front to back through a density: march, evaluate, and go on only where something can still be seen."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from polyfield.fields.ops.rows import copy_runs
from polyfield.fields.samples import Samples
from polyfield.renderers.composite import visible
from polyfield.renderers.march import Stretch

__all__ = ["Traced", "trace"]

March = Callable[[Tensor, Int32[Tensor, " R"] | None, int], Stretch]
"""From ray numbers, where to go on with each (None: at the start) and the number of the turn to a stretch of each."""


@dataclass(frozen=True)
class Traced:
    """The samples that can be seen, in the order of rays, and what the density says of them.

    Attributes:
        samples: N of them, of all R rays.
        sigma: Their densities.
        features: What the field's `color` takes.
        evaluated: How many evaluations of the density it took.
    """

    samples: Samples
    sigma: Float[Tensor, " N"]
    features: Float[Tensor, "N F"]
    evaluated: int


@torch.no_grad()
def trace(
    march: March,
    density: Callable[[Float[Tensor, "N 3"]], tuple[Tensor, Tensor]],
    directions: Float[Tensor, "R 3"],
    min_transmittance: float,
) -> Traced:
    """Trace rays.

    Args:
        march: Places samples along some of the rays; a later call goes on where the one before ended.
        density: Densities and features at world points.
        directions: Of all rays.
        min_transmittance: What is behind this is left out, or most of it: a stretch does not know what the one before
            it has absorbed.
    """
    rays = directions.shape[0]
    alive, begin = torch.arange(rays), None
    parts: list[_Part] = []
    evaluated = 0
    for turn in itertools.count():
        if not len(alive):
            break
        stretch = march(alive, begin, turn)
        marched, offsets = stretch.samples, stretch.samples.ray_offsets
        evaluated += len(marched)
        sigma, features = density(marched.positions)
        seen = visible(sigma, marched.t0, marched.t1, offsets, min_transmittance)
        parts.append(_Part(alive, seen, marched, sigma, features))
        # Where the last sample of a stretch that was cut can be seen there may be more behind it.
        onward = ((stretch.resume >= 0) & (seen == offsets.diff())).nonzero()[:, 0]
        alive, begin = alive[onward], stretch.resume[onward]
    return _merged(parts, directions, evaluated)


@dataclass(frozen=True)
class _Part:
    """Some samples of some of the rays.

    Attributes:
        rays: Which, rising.
        seen: How many of each ray's samples count, from its first on.
        marched: The samples, by place in `rays`.
        sigma, features: Of all of them.
    """

    rays: Int64[Tensor, " A"]
    seen: Int64[Tensor, " A"]
    marched: Samples
    sigma: Float[Tensor, " N"]
    features: Float[Tensor, "N F"]


def _merged(parts: list[_Part], directions: Tensor, evaluated: int) -> Traced:
    """Put the stretches of each ray one behind the other."""
    rays = directions.shape[0]
    counts = torch.zeros(rays, dtype=torch.int64)
    for part in parts:
        counts.index_add_(0, part.rays, part.seen)
    offsets = torch.zeros(rays + 1, dtype=torch.int64)
    torch.cumsum(counts, 0, out=offsets[1:])
    total = int(offsets[-1])
    width = parts[0].features.shape[1] if parts else 0
    positions, features = directions.new_empty(total, 3), directions.new_empty(total, width)
    t0, t1, sigma = (directions.new_empty(total) for _ in range(3))
    place = offsets[:-1].clone()
    for part in parts:
        marched = part.marched
        copy_runs(
            (positions, t0, t1, sigma, features),
            place[part.rays],
            (marched.positions, marched.t0, marched.t1, part.sigma, part.features),
            marched.ray_offsets[:-1],
            part.seen,
        )
        place.index_add_(0, part.rays, part.seen)
    ray_ids = torch.repeat_interleave(torch.arange(rays, dtype=torch.int32), counts)
    samples = Samples(positions, t0, t1, offsets, ray_ids, directions)
    return Traced(samples, sigma, features, evaluated)
