"""Ray marching: samples along rays, only where the occupancy grid says that something may be.

A ray enters the grid's box at t_in (or at `near`) and leaves it at t_out (or at `far`). Its lattice begins at t_in:
sample k sits k + jitter steps behind it and stands for half a step to either side. Which cells are occupied decides
which of the lattice's samples are taken, never where they lie.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from polyfield import native
from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.ops.floats import check_floats
from polyfield.fields.samples import Samples
from polyfield.renderers.occupancy import OccupancyGrid

__all__ = [
    "MarchSettings",
    "Stretch",
    "march",
    "march_stretch",
    "march_stretch_reference",
    "native_lattice",
]

_LATTICE = 1 << 22  # samples of a lattice that float32 can still tell apart, jitter included


@dataclass(frozen=True)
class MarchSettings:
    """How far apart samples lie, and how many there may be.

    Attributes:
        step: Length of a step, world units; > 0.
        cone: A step at distance t is t * cone long, but not below `step` nor above `step` times 2^(levels - 1). 0: all
            steps equal. 1/256 is usual for scenes without bounds.
        max_samples: Most samples of a ray; those nearest to the camera are kept.
        max_total: Most samples of a batch; see `march`.
        max_depth: A ray ends behind the sample that brings the sum of its cells' `OccupancyGrid.values` to this:
            an estimate of when nothing behind can be seen any more. Sixteen cells not looked at yet count as much as
            it.
    """

    step: float
    cone: float = 0.0
    max_samples: int = 1024
    max_total: int = 1 << 24
    max_depth: float = math.inf

    def __post_init__(self) -> None:
        if not (0.0 < self.step < math.inf and 0.0 <= self.cone < 1.0):
            raise ConfigError(
                f"MarchSettings: step must be finite and above 0, and cone in [0, 1), but are {self.step} and "
                f"{self.cone}."
            )
        if self.max_samples < 1 or self.max_total < 1:
            raise ConfigError(
                f"MarchSettings: max_samples and max_total must be at least 1, but are {self.max_samples} and "
                f"{self.max_total}."
            )


@dataclass(frozen=True)
class Stretch:
    """Samples of rays, and where they go on.

    Attributes:
        samples: Of R rays.
        resume: Place in the ray's lattice to go on at, where `max_samples` or `max_depth` ended it; else -1.
    """

    samples: Samples
    resume: Int32[Tensor, " R"]


def march(
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    near: Float[Tensor, " R"] | float,
    far: Float[Tensor, " R"] | float,
    grid: OccupancyGrid,
    settings: MarchSettings,
    jitter: Float[Tensor, " R"] | None = None,
) -> Samples:
    """Place samples along rays.

    Args:
        origins: World units.
        directions: Unit vectors.
        near, far: Where to begin and to end along each ray, world units; far may be infinite.
        grid: Which cells are occupied.
        settings: Steps and limits.
        jitter: Where in its step each ray's samples sit, in [0, 1); None: in the middle.

    Returns:
        The samples, each at its place in its interval; intervals touch but do not overlap, and lie within
        [near, far]. The same for any number of threads. A ray that misses the box, has near >= far, a zero direction
        or a number that is NaN (or infinite, `far` apart) has none.

        When the batch would have more than `settings.max_total` samples, the result has fewer rays: the first ones,
        as many as fit (always at least one: it loses its farthest samples). `ray_offsets` and `directions` tell how
        many.

    Raises:
        ShapeError: Shapes do not fit together, or a tensor is not of floats.
        ConfigError: The step is too small for the box.
    """
    return march_stretch(origins, directions, near, far, grid, settings, jitter).samples


def march_stretch(
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    near: Float[Tensor, " R"] | float,
    far: Float[Tensor, " R"] | float,
    grid: OccupancyGrid,
    settings: MarchSettings,
    jitter: Float[Tensor, " R"] | None = None,
    begin: Int32[Tensor, " R"] | None = None,
) -> Stretch:
    """March as `march` does, and tell how to go on.

    Args:
        origins, directions, near, far, grid, settings, jitter: As for `march`.
        begin: First place of each ray's lattice to look at, as `Stretch.resume` told it: a ray where it is negative has
            ended, and gets no more samples. None: the first of all.

    Holds:
        Stretches one behind the other, `near` and `far` being the same, have the samples of one march without limits.
    """
    rays = _check(origins, directions, near, far, jitter)
    if begin is not None and (begin.shape != (rays,) or begin.dtype != torch.int32):
        raise ShapeError(
            f"march_stretch: begin must be int32 [{rays}], but is {begin.dtype} {list(begin.shape)}."
        )
    lattice = _Lattice.of(grid, settings)
    origins, directions = origins.detach().contiguous(), directions.detach().contiguous()
    near, far = _per_ray(near, origins), _per_ray(far, origins)
    if jitter is not None:
        jitter = jitter.detach().contiguous()
    if not native.usable(
        origins, directions, near, far, grid.values, *([] if jitter is None else [jitter])
    ):
        return march_stretch_reference(
            origins, directions, near, far, grid, settings, jitter, begin
        )
    begin = None if begin is None else begin.contiguous()
    resume = torch.empty(rays, dtype=torch.int32)
    marcher = native.worker("RayMarcher")
    marcher.configure(lattice.native(grid))
    offsets = torch.empty(rays + 1, dtype=torch.int64)
    kept = marcher.march(
        origins.data_ptr(),
        directions.data_ptr(),
        near.data_ptr(),
        far.data_ptr(),
        0 if jitter is None else jitter.data_ptr(),
        rays,
        (
            0 if begin is None else begin.data_ptr(),
            settings.max_samples,
            settings.max_depth,
            0 if settings.max_depth == math.inf else grid.values.data_ptr(),
            resume.data_ptr(),
        ),
        settings.max_total,
        offsets.data_ptr(),
    )
    count = int(offsets[kept])
    new = origins.new_empty
    positions, t0, t1 = new(count, 3), new(count), new(count)
    ray_ids = new(count, dtype=torch.int32)
    marcher.fill(positions.data_ptr(), t0.data_ptr(), t1.data_ptr(), ray_ids.data_ptr())
    samples = Samples(positions, t0, t1, offsets[: kept + 1], ray_ids, directions[:kept])
    return Stretch(samples, resume[:kept])


def march_stretch_reference(
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    near: Float[Tensor, " R"] | float,
    far: Float[Tensor, " R"] | float,
    grid: OccupancyGrid,
    settings: MarchSettings,
    jitter: Float[Tensor, " R"] | None = None,
    begin: Int32[Tensor, " R"] | None = None,
) -> Stretch:
    """Compute `march_stretch` in plain torch: every sample of the lattice, then those in occupied cells."""
    rays = _check(origins, directions, near, far, jitter)
    lattice = _Lattice.of(grid, settings)
    shift = origins.new_full((rays,), 0.5) if jitter is None else jitter
    enter, leave = _span(origins, directions, _per_ray(near, origins), _per_ray(far, origins), grid)
    first = lattice.steps_until(enter)
    most = (lattice.steps_until(leave) - first).clamp(min=0).amax() if rays else enter.new_zeros(())
    k = torch.arange(min(int(most) + 2, _LATTICE), device=origins.device, dtype=origins.dtype)

    def at(places: Tensor) -> Tensor:
        return lattice.time_at(enter[:, None], first[:, None], places)

    t = at(k + shift[:, None])
    inside = t < leave[:, None]
    positions = origins[:, None] + t[..., None] * directions[:, None]
    cells = grid.cells_of(positions.view(-1, 3)).view(inside.shape)
    taken = inside & (grid.distance.view(-1)[cells] == 0)
    if begin is not None:
        taken &= (k >= begin[:, None]) & (begin[:, None] >= 0)
    count = torch.cumsum(taken, 1)
    enough = count >= min(settings.max_samples, settings.max_total)
    if settings.max_depth < math.inf:
        thought = grid.values.view(-1)[cells]
        thought = (
            thought.where(thought.isfinite(), settings.max_depth / 15.5).clamp_min(0.0) * taken
        )
        enough |= torch.cumsum(thought, 1) >= settings.max_depth
    last = taken & enough  # the first of these, where there is one, ends its ray
    resume = torch.where(last.any(1), last.int().argmax(1).int() + 1, -1)
    taken &= (resume[:, None] < 0) | (k < resume[:, None])
    offsets = torch.cat([taken.new_zeros(1, dtype=torch.int64), torch.cumsum(taken.sum(1), 0)])
    kept = int((offsets <= settings.max_total).sum()) - 1
    taken[kept:] = False
    edges = at(torch.cat([k, k[-1:] + 1]) + (shift[:, None] - 0.5))
    t0 = torch.maximum(edges[:, :-1], enter[:, None])
    t1 = torch.minimum(edges[:, 1:], leave[:, None])
    ray_ids = taken.nonzero()[:, 0].int()
    samples = Samples(
        positions[taken], t0[taken], t1[taken], offsets[: kept + 1], ray_ids, directions[:kept]
    )
    return Stretch(samples, resume[:kept].int())


def native_lattice(grid: OccupancyGrid, settings: MarchSettings) -> Any:
    """Make the cells and the steps as the native module takes them.

    Raises:
        ConfigError: The step is too small for the box.
    """
    return _Lattice.of(grid, settings).native(grid)


@dataclass(frozen=True)
class _Lattice:
    """Times of steps: constant up to `grow`, then growing with distance up to `flat`, then constant."""

    step: float
    cone: float
    largest: float

    @staticmethod
    def of(grid: OccupancyGrid, settings: MarchSettings) -> "_Lattice":
        diagonal = 2.0 * float(grid.half_size.norm()) * 2 ** (grid.levels - 1)
        if diagonal / settings.step > _LATTICE:
            raise ConfigError(
                f"march: a step of {settings.step:g} cuts the box's diagonal of {diagonal:g} into more than "
                f"{_LATTICE} steps. Use a longer step or a smaller box."
            )
        return _Lattice(settings.step, settings.cone, settings.step * 2 ** (grid.levels - 1))

    @property
    def grow(self) -> float:
        return self.step / self.cone if self.cone else math.inf

    @property
    def flat(self) -> float:
        return self.largest / self.cone if self.cone else math.inf

    @property
    def u_grow(self) -> float:
        return 1.0 / self.cone if self.cone else math.inf

    @property
    def u_flat(self) -> float:
        return (
            self.u_grow + math.log(self.largest / self.step) / self.cone if self.cone else math.inf
        )

    def numbers(self) -> list[float]:
        return [
            self.step, self.cone, self.largest, self.grow, self.flat, self.u_grow, self.u_flat
        ]  # fmt: skip

    def native(self, grid: OccupancyGrid) -> Any:
        return native.core().MarchLattice(
            grid.center.tolist(),
            (1.0 / grid.half_size).tolist(),
            grid.levels,
            grid.resolution,
            grid.distance.data_ptr(),
            self.numbers(),
        )

    def steps_until(self, t: Tensor) -> Tensor:
        if not self.cone:
            return t / self.step
        growing = self.u_grow + torch.log(t / self.grow) / self.cone
        beyond = self.u_flat + (t - self.flat) / self.largest
        return torch.where(
            t < self.grow, t / self.step, torch.where(t < self.flat, growing, beyond)
        )

    def time_at(self, enter: Tensor, first: Tensor, k: Tensor) -> Tensor:
        if not self.cone:
            return enter + k * self.step
        u = first + k
        growing = self.grow * torch.exp((u.clamp(max=self.u_flat) - self.u_grow) * self.cone)
        beyond = self.flat + (u - self.u_flat) * self.largest
        return torch.where(
            u < self.u_grow, u * self.step, torch.where(u < self.u_flat, growing, beyond)
        )


def _span(
    origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, grid: OccupancyGrid
) -> tuple[Tensor, Tensor]:
    """The part of [near, far] inside the outermost box; (0, 0) where there is none."""
    inverse, outer = 1.0 / grid.half_size, 2.0 ** (grid.levels - 1)
    q, v = (origins - grid.center) * inverse, directions * inverse
    still = v == 0
    one = torch.where(still, 1.0, v)
    a, b = (-outer - q) / one, (outer - q) / one
    enter = torch.maximum(near, torch.where(still, -math.inf, torch.minimum(a, b)).amax(1))
    leave = torch.minimum(far, torch.where(still, math.inf, torch.maximum(a, b)).amin(1))
    outside = (still & (q.abs() > outer)).any(1) | still.all(1)
    broken = ~(q.isfinite().all(1) & v.isfinite().all(1) & near.isfinite() & ~far.isnan())
    none = outside | broken | ~(enter < leave)
    return torch.where(none, 0.0, enter), torch.where(none, 0.0, leave)


def _per_ray(value: Tensor | float, origins: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().to(origins.dtype).contiguous()
    return origins.new_full((origins.shape[0],), value)


def _check(
    origins: Tensor,
    directions: Tensor,
    near: Tensor | float,
    far: Tensor | float,
    jitter: Tensor | None,
) -> int:
    if origins.ndim != 2 or origins.shape[1] != 3 or directions.shape != origins.shape:
        raise ShapeError(
            f"march: origins and directions must both be [R, 3], but are {list(origins.shape)} and "
            f"{list(directions.shape)}."
        )
    check_floats("march", origins=origins, directions=directions, jitter=jitter)
    rays = int(origins.shape[0])
    for name, value in (("near", near), ("far", far), ("jitter", jitter)):
        if isinstance(value, Tensor) and value.shape != (rays,):
            raise ShapeError(
                f"march: {name} must be [{rays}], one for each ray, but is {list(value.shape)}."
            )
    return rays
