"""Tracing rays front to back through a density: march, evaluate, and go on only where something can still be seen.

What is found is what one march over everything would find: the samples of each ray before which enough light is left.
How far a ray goes at a turn decides only how many samples behind that are looked at in vain.
"""

import itertools
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from polyfield import native
from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.ops.rows import copy_runs
from polyfield.fields.point_field import native_conditions, point_field
from polyfield.fields.radiance import RadianceField
from polyfield.fields.samples import Samples
from polyfield.renderers.composite import visible
from polyfield.renderers.march import MarchSettings, march_stretch, native_lattice
from polyfield.renderers.occupancy import OccupancyGrid

__all__ = ["Rays", "Traced", "trace", "trace_by_turns"]

# Samples of a ray's first stretch and of the others: with at most 65,536 rays within what one march may return. More
# at first would be looked at in vain, where nothing is known of the cells yet.
_FIRST, _LATER = 48, 128
# What cells absorb is an estimate, from above. Where it says several times over that nothing behind can be seen, the
# field is asked first; a ray that then still sees meets thin stuff, and goes further each time: a turn costs as much
# as some five thousand samples.
_ENOUGH, _GROWTH = 30.0, 6.0


@dataclass(frozen=True)
class Rays:
    """R rays on their way through a scene.

    Attributes:
        origins, directions: World units; directions are unit vectors.
        near, far: Between which there may be something, world units from the origin.
        jitter: Where in its step each ray's samples sit, in [0, 1); None: in the middle.

    Raises:
        ShapeError: Shapes or dtypes do not fit together.
    """

    origins: Float[Tensor, "R 3"]
    directions: Float[Tensor, "R 3"]
    near: float
    far: float
    jitter: Float[Tensor, " R"] | None = None

    def __post_init__(self) -> None:
        rays = len(self.origins)
        jitter = self.origins[:, :1].flatten() if self.jitter is None else self.jitter
        for name, tensor, shape in (
            ("origins", self.origins, (rays, 3)),
            ("directions", self.directions, (rays, 3)),
            ("jitter", jitter, (rays,)),
        ):
            if tensor.shape != shape or tensor.dtype != self.origins.dtype:
                raise ShapeError(
                    f"trace: {name} must be {list(shape)} like the origins' {self.origins.dtype}, but is "
                    f"{tensor.dtype} {list(tensor.shape)}."
                )

    def __len__(self) -> int:
        return int(self.origins.shape[0])


@dataclass(frozen=True)
class Traced:
    """The samples that can be seen, in the order of rays, and what the field says of them.

    Attributes:
        samples: N of them, of all R rays.
        sigma: Their densities.
        color: Their colours.
        evaluated: How many evaluations of the density it took.
        encoded: What the field's encoder gave, where that was asked for and could be kept.
    """

    samples: Samples
    sigma: Float[Tensor, " N"]
    color: Float[Tensor, "N 3"]
    evaluated: int
    encoded: Float[Tensor, "F N"] | None = None


@torch.no_grad()
def trace(
    rays: Rays,
    grid: OccupancyGrid,
    settings: MarchSettings,
    field: RadianceField,
    min_transmittance: float,
    *,
    keep_encoded: bool = False,
) -> Traced:
    """Trace rays through a field. No gradient flows.

    Args:
        rays: At most 65,536 for a field without a native form.
        grid: Which cells are occupied, and what they are thought to absorb.
        settings: Steps; its limits are not used.
        field: Says densities and colours; pointwise (see `polyfield.renderers.trace_whole` for others).
        min_transmittance: What is behind this is left out.
        keep_encoded: Whether what the encoder gives is wanted too.
    """
    points = point_field(field)
    if points is None or not native.usable(rays.origins, grid.values):
        return trace_by_turns(rays, grid, settings, field, min_transmittance)
    origins, directions = rays.origins.contiguous(), rays.directions.contiguous()
    jitter = None if rays.jitter is None else rays.jitter.contiguous()
    conditions = field.conditions(directions)
    tracer = native.worker("Tracer")
    offsets = torch.empty(len(rays) + 1, dtype=torch.int64)
    evaluated = tracer.trace(
        origins.data_ptr(),
        directions.data_ptr(),
        0 if jitter is None else jitter.data_ptr(),
        len(rays),
        rays.near,
        rays.far,
        native_conditions(conditions),
        native.core().TraceSettings(
            native_lattice(grid, settings), grid.values.data_ptr(), min_transmittance, keep_encoded
        ),
        points,
        offsets.data_ptr(),
    )
    count, width = int(offsets[-1]), field.encoder.out_dim
    new = origins.new_empty
    positions, color = new(count, 3), new(count, 3)
    t0, t1, sigma = new(count), new(count), new(count)
    encoded = new(width, count) if keep_encoded else None
    ray_ids = new(count, dtype=torch.int32)
    tracer.collect(
        offsets.data_ptr(),
        width,
        *(part.data_ptr() for part in (positions, t0, t1, sigma, color)),
        0 if encoded is None else encoded.data_ptr(),
        ray_ids.data_ptr(),
    )
    samples = Samples(positions, t0, t1, offsets, ray_ids, directions)
    return Traced(samples, sigma, color, evaluated, encoded)


@torch.no_grad()
def trace_by_turns(
    rays: Rays,
    grid: OccupancyGrid,
    settings: MarchSettings,
    field: RadianceField,
    min_transmittance: float,
) -> Traced:
    """Compute `trace` for any pointwise field, all rays at a time. Turns cost time here, so there are few.

    Raises:
        ConfigError: The field is not pointwise.
    """
    if not field.pointwise:
        raise ConfigError(
            "trace: this field looks at all samples of a ray together, so none may be left out: use trace_whole."
        )
    alive, begin = torch.arange(len(rays)), None
    left = torch.ones(len(rays))
    parts: list[_Part] = []
    evaluated = 0
    for turn in itertools.count():
        if not len(alive):
            break
        limits = replace(
            settings,
            max_samples=_LATER if turn else _FIRST,
            max_depth=_ENOUGH * _GROWTH ** min(turn, 30),
        )
        stretch = march_stretch(
            rays.origins[alive],
            rays.directions[alive],
            rays.near,
            rays.far,
            grid,
            limits,
            None if rays.jitter is None else rays.jitter[alive],
            begin,
        )
        marched, offsets = stretch.samples, stretch.samples.ray_offsets
        evaluated += len(marched)
        sigma, features = field.density(marched.positions)
        seen = visible(sigma, marched.t0, marched.t1, offsets, min_transmittance, left)
        parts.append(_Part(alive, seen, marched, sigma, features))
        onward = ((stretch.resume >= 0) & (left >= min_transmittance)).nonzero()[:, 0]
        alive, begin, left = alive[onward], stretch.resume[onward], left[onward]
    samples, sigma, features = _merged(parts, rays.directions, field.config.features)
    return Traced(samples, sigma, field.color(samples, features), evaluated)


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


def _merged(parts: list[_Part], directions: Tensor, width: int) -> tuple[Samples, Tensor, Tensor]:
    """Put the stretches of each ray one behind the other."""
    rays = directions.shape[0]
    counts = torch.zeros(rays, dtype=torch.int64)
    for part in parts:
        counts.index_add_(0, part.rays, part.seen)
    offsets = torch.zeros(rays + 1, dtype=torch.int64)
    torch.cumsum(counts, 0, out=offsets[1:])
    total = int(offsets[-1])
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
    return samples, sigma, features
