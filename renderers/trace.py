"""Tracing rays front to back through a density: march, evaluate, and go on only where something can still be seen."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from polyfield.fields.ops.rows import take_rows
from polyfield.fields.samples import Samples
from polyfield.renderers.composite import visible

__all__ = ["FIRST", "Traced", "trace"]

FIRST = 16
"""Samples of a ray that are evaluated first: enough for most rays to end at the surface that they meet."""

# Rays that get further go on in stretches of this many: with at most 65,536 rays within what one march may return.
_FURTHER = 64

March = Callable[[Tensor, Float[Tensor, " R"] | None, int], Samples]
"""From ray numbers, where to begin on each (None: at the start) and the most samples of a ray to samples."""


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
    alive, near, size = torch.arange(rays), None, FIRST
    parts: list[tuple[Tensor, Samples, Tensor, Tensor]] = []
    evaluated = 0
    while len(alive):
        marched = march(alive, near, size)
        evaluated += len(marched)
        sigma, features = density(marched.positions)
        rows, offsets = visible(
            sigma, marched.t0, marched.t1, marched.ray_offsets, min_transmittance
        )
        sigma, features = take_rows(rows, sigma, features)
        parts.append((alive, marched.take(rows, offsets), sigma, features))
        # Where all samples of a full stretch can be seen there may be more behind them.
        onward = (offsets.diff() == size).nonzero()[:, 0]
        alive = alive[onward]
        near = marched.t1[marched.ray_offsets[onward + 1] - 1]
        size = _FURTHER
    return _merged(parts, directions, evaluated)


def _merged(
    parts: list[tuple[Tensor, Samples, Tensor, Tensor]], directions: Tensor, evaluated: int
) -> Traced:
    """Put the stretches of each ray one behind the other."""
    if len(parts) == 1:
        (_, samples, sigma, features) = parts[0]
        return Traced(replace(samples, directions=directions), sigma, features, evaluated)
    rays = directions.shape[0]
    counts = torch.zeros(rays, len(parts), dtype=torch.int64)
    starts = torch.zeros(rays, len(parts), dtype=torch.int64)
    before = 0
    for i, (alive, samples, _, _) in enumerate(parts):
        counts[alive, i] = samples.ray_offsets.diff()
        starts[alive, i] = samples.ray_offsets[:-1] + before
        before += len(samples)
    order = _ranges(starts.reshape(-1), counts.reshape(-1))
    offsets = torch.zeros(rays + 1, dtype=torch.int64)
    torch.cumsum(counts.sum(1), 0, out=offsets[1:])
    columns = [
        torch.cat([getattr(samples, name) for _, samples, _, _ in parts])
        for name in ("positions", "t0", "t1")
    ]
    ids = torch.cat([alive.to(torch.int32)[s.ray_ids.long()] for alive, s, _, _ in parts])
    positions, t0, t1, ray_ids, sigma, features = take_rows(
        order,
        *columns,
        ids,
        torch.cat([sigma for _, _, sigma, _ in parts]),
        torch.cat([features for _, _, _, features in parts]),
    )
    merged = Samples(positions, t0, t1, offsets, ray_ids, directions)
    return Traced(merged, sigma, features, evaluated)


def _ranges(starts: Int64[Tensor, " K"], counts: Int64[Tensor, " K"]) -> Int64[Tensor, " M"]:
    """All of starts[0], starts[0] + 1, ... (counts[0] of them), then those from starts[1], and so on."""
    ends = torch.cumsum(counts, 0)
    return torch.repeat_interleave(starts - (ends - counts), counts) + torch.arange(int(ends[-1]))
