"""Occupancy grid: which cells of space may hold something, so that rays skip the rest.

Level k covers the region of interest scaled by 2^k about its centre, by resolution^3 cells; a point belongs to the
finest level that holds it. Cells are stored x first: values[level].view(n, n, n)[x, y, z].
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polyfield import native
from polyfield.errors import ConfigError, InputError, ShapeError
from polyfield.renderers.carve import carve
from polyfield.renderers.random_bits import random_below, random_bits

__all__ = ["OccupancyGrid", "Pinholes"]

CARVED = -1.0  # the value of a cell known to be empty for good
UNSEEN = float("inf")  # the value of a cell not looked at yet: counts as occupied

# Of the cells looked at in an update: a cell that was emptied wrongly is found again where something is near it, so
# that is where to look; thin things far from everything else are found by the few looks that go anywhere.
_FROM_ALL, _NEAR = 0.0625, 0.4375

_STRIDE = 2654435761  # a prime near 2^32 / golden ratio: multiples of it wander evenly over any number of cells


class Pinholes(Protocol):
    """What carving needs of cameras: `polyfield.datasets.cameras.Cameras` without distortion."""

    @property
    def world_from_camera(self) -> Float[Tensor, "C 3 4"]:
        """Poses, OpenCV axes."""

    @property
    def focal(self) -> Float[Tensor, "C 2"]:
        """In pixels."""

    @property
    def center(self) -> Float[Tensor, "C 2"]:
        """In pixels; the first pixel's centre is at (0.5, 0.5)."""


class OccupancyGrid(torch.nn.Module):
    """Cells with the largest optical depth seen in each of them lately.

    Values are density times a step's length, so dimensionless: `UNSEEN` before the first look, `CARVED` for cells that
    are known to be empty. A cell is occupied when its value exceeds the smaller of `min_threshold` and the mean over
    seen cells. Never empty: when no cell is occupied, all that are not carved away count as occupied.

    Attributes:
        box: Low and high corner of the region of interest, [2, 3], world units. Need not be a cube.
        values: float32 [levels, resolution^3].
        threshold: float32 scalar, above which a cell is occupied.
        distance: uint8 [levels, resolution^3], derived: 0 occupied, else all cells nearer than this (in steps to any
            of the 26 neighbours) are empty.
    """

    box: Tensor
    values: Tensor
    threshold: Tensor
    distance: Tensor
    cursor: Tensor

    def __init__(
        self,
        low: Sequence[float],
        high: Sequence[float],
        *,
        levels: int = 1,
        resolution: int = 128,
        decay: float = 0.8,
        min_threshold: float = 0.01,
    ) -> None:
        """Make a grid of unseen cells.

        Args:
            low, high: Corners of the region of interest, world units.
            levels: Cascades, 1 to 8.
            resolution: Cells along each side, a power of two from 4 to 256.
            decay: Factor on a cell's value at each look.
            min_threshold: Optical depth of a step above which a cell is occupied for certain.

        Raises:
            ConfigError: A number is out of its range.
            InputError: The box is empty or not finite.
        """
        super().__init__()
        if not 1 <= levels <= 8:
            raise ConfigError(f"OccupancyGrid: levels must lie in 1 to 8, but is {levels}.")
        if not 4 <= resolution <= 256 or resolution & (resolution - 1):
            raise ConfigError(
                f"OccupancyGrid: resolution must be a power of two from 4 to 256, but is {resolution}."
            )
        if not 0.0 < decay <= 1.0 or not min_threshold > 0.0:
            raise ConfigError(
                f"OccupancyGrid: decay must lie in (0, 1] and min_threshold above 0, but are {decay} and "
                f"{min_threshold}."
            )
        box = torch.tensor([list(map(float, low)), list(map(float, high))])
        if box.shape != (2, 3) or not box.isfinite().all() or not (box[1] > box[0]).all():
            raise InputError(
                f"OccupancyGrid: the box needs low < high in three finite numbers, but is {box.tolist()}."
            )
        self.levels, self.resolution = levels, resolution
        self.decay, self.min_threshold = decay, min_threshold
        self.register_buffer("box", box)
        self.register_buffer("values", torch.full((levels, resolution**3), UNSEEN))
        self.register_buffer("threshold", torch.tensor(min_threshold))
        self.register_buffer("cursor", torch.tensor(0))
        self.register_buffer(
            "distance", torch.zeros(levels, resolution**3, dtype=torch.uint8), persistent=False
        )
        self._alive: Tensor | None = None  # ids of cells not carved away; None: all
        self._occupied: Tensor | None = None  # ids of occupied cells, when asked for
        self._carve_covered()
        self.register_load_state_dict_post_hook(_after_loading)  # type: ignore[no-untyped-call]

    @property
    def center(self) -> Float[Tensor, "3"]:
        """Middle of the box."""
        return 0.5 * (self.box[0] + self.box[1])

    @property
    def half_size(self) -> Float[Tensor, "3"]:
        """Half the box's sides."""
        return 0.5 * (self.box[1] - self.box[0])

    def cells_of(self, points: Float[Tensor, "N 3"]) -> Int[Tensor, " N"]:
        """Number of the cell that holds each point, counted through all levels (level * resolution^3 + cell).

        Points outside the outermost box count to its outermost cells; a coordinate that is NaN counts as the lowest.
        """
        if points.ndim != 2 or points.shape[1] != 3:
            raise ShapeError(f"OccupancyGrid: points must be [N, 3], but are {list(points.shape)}.")
        q = (points - self.center) * (1.0 / self.half_size)
        size = q.abs().nan_to_num(0.0).amax(1)
        bounds = 2.0 ** torch.arange(self.levels - 1, dtype=q.dtype, device=q.device)
        level = torch.searchsorted(bounds, size.contiguous())
        scale = 0.5 * self.resolution * 0.5 ** level.to(q.dtype)
        n = self.resolution
        place = (q * scale[:, None] + 0.5 * n).nan_to_num(0.0).clamp(0, n - 1).long()
        return ((level * n + place[:, 0]) * n + place[:, 1]) * n + place[:, 2]

    def occupied(self, points: Float[Tensor, "N 3"]) -> Bool[Tensor, " N"]:
        """Whether each point lies in an occupied cell; one with a NaN does not."""
        occupied: Tensor = self.distance.view(-1)[self.cells_of(points)] == 0
        return occupied & ~points.isnan().any(1)

    def occupied_cells(self) -> Int[Tensor, " M"]:
        """Numbers of the occupied cells that a look can change, rising."""
        if self._occupied is None:
            distance, values = self.distance.view(-1), self.values.view(-1)
            if native.usable(values):
                count_cells = native.core().occupancy_cells
                places = distance.data_ptr(), values.data_ptr(), distance.numel()
                self._occupied = torch.empty(count_cells(*places, 0), dtype=torch.int64)
                count_cells(*places, self._occupied.data_ptr())
            else:
                self._occupied = ((distance == 0) & (values >= 0)).nonzero()[:, 0]
        return self._occupied

    def occupied_balls(self, beside: int) -> tuple[Float[Tensor, "M 3"], float]:
        """Balls that hold all occupied cells of the finest level, one for eight cells or fewer.

        Args:
            beside: As well, all cells that are at most so many away from an occupied one.

        Returns:
            Centres and radius, world units.
        """
        half = self.resolution // 2
        blocks = (self.distance[0] == 0).view(half, 2, half, 2, half, 2).any(5).any(3).any(1)
        q = (blocks.nonzero() + 0.5) * (2.0 / half) - 1.0
        cell = float((2.0 * self.half_size / self.resolution).norm())
        return self.center + q * self.half_size, (1 + beside) * cell

    def random_points(self, cells: Int[Tensor, " N"], seed: int) -> Float[Tensor, "N 3"]:
        """A random point of each cell, in world units.

        Args:
            cells: Numbers as from `cells_of`, int64.
            seed: The same seed gives the same points.

        Raises:
            ShapeError: `cells` is not int64 [N].
        """
        if cells.ndim != 1 or cells.dtype != torch.int64:
            raise ShapeError(
                f"OccupancyGrid: cells must be int64 [N], but are {cells.dtype} {list(cells.shape)}."
            )
        cells = cells.contiguous()
        if native.usable(cells, self.box):
            points = self.box.new_empty(len(cells), 3)
            native.core().occupancy_points(
                self.center.tolist(),
                self.half_size.tolist(),
                self.resolution,
                seed,
                cells.data_ptr(),
                len(cells),
                points.data_ptr(),
            )
            return points
        bits = random_bits(seed, 2 * torch.arange(len(cells), device=cells.device) + 1)
        shifts = torch.tensor([0, 21, 42], device=cells.device)
        places = ((bits[:, None] >> shifts) & 0x1FFFFF).float() * 2.0**-21
        n = self.resolution
        index = torch.stack([cells // (n * n) % n, cells // n % n, cells % n], 1)
        q = (index + places) * (2.0 / n) - 1.0
        scale = torch.ldexp(
            torch.ones(len(cells), 1, device=cells.device), (cells // n**3)[:, None]
        )
        return self.center + q * (self.half_size * scale)

    def update(
        self,
        density: Callable[[Float[Tensor, "N 3"]], Float[Tensor, " N"]],
        step_length: float,
        generator: torch.Generator | None = None,
        warm: bool = False,
        cells: int = 131072,
    ) -> None:
        """Look at some cells again, at a random point of each, and decide anew which are occupied.

        Args:
            density: Density at world points, 1 / world length.
            step_length: What turns density into a value: the length of a step, world units.
            generator: Source of the randomness.
            warm: Go through all cells in turn; else, of 16, one is drawn from all, seven from around occupied ones,
                eight from the occupied ones.
            cells: How many to look at.

        Raises:
            ShapeError: `density` does not give one number for each point.
        """
        seed = int(torch.randint(1 << 62, (), generator=generator))
        ids = self._turn(cells) if warm else self._draw(cells, seed)
        with torch.no_grad():
            seen = density(self.random_points(ids, seed)).detach().float() * step_length
        if seen.shape != ids.shape:
            raise ShapeError(
                f"OccupancyGrid: density must give [{len(ids)}], one for each point, but gave {list(seen.shape)}."
            )
        seen = seen.nan_to_num(0.0, 3e38, 0.0).clamp_(0.0, 3e38).contiguous()
        flat = self.values.view(-1)
        if native.usable(flat, seen):
            core, scratch = native.core(), torch.empty_like(seen)
            core.occupancy_look(
                flat.data_ptr(),
                ids.data_ptr(),
                seen.data_ptr(),
                len(ids),
                self.decay,
                scratch.data_ptr(),
            )
            mean = core.occupancy_mean(flat.data_ptr(), flat.numel())
        else:
            old = flat[ids]
            # Twice the same cell: the same decayed value is written twice, then the larger look counts.
            flat[ids] = torch.where(old.isinf(), torch.zeros_like(old), old * self.decay)
            flat.scatter_reduce_(0, ids, seen, "amax")
            counted = flat[(flat >= 0) & flat.isfinite()]
            mean = float(counted.double().mean()) if len(counted) else 0.0
        self.threshold.fill_(min(self.min_threshold, mean))
        self.refresh()

    def carve(self, cameras: Pinholes, alphas: Iterable[Float[Tensor, "H W"]]) -> None:
        """Carve away for good what the silhouettes of an object show to be empty.

        Args:
            cameras: Pinhole cameras; see `polyfield.renderers.carve`.
            alphas: The alpha image of each, in order.
        """
        scales = 2.0 ** torch.arange(self.levels, dtype=torch.float32)[:, None]
        self.set_from_hull(
            carve(
                self.center - scales * self.half_size,
                self.center + scales * self.half_size,
                self.resolution,
                cameras.world_from_camera,
                cameras.focal,
                cameras.center,
                alphas,
            )
        )

    def set_from_hull(self, kept: Bool[Tensor, "..."]) -> None:
        """Carve cells away for good.

        Args:
            kept: True for cells that may hold something; levels * resolution^3 of them in this grid's order (from
                `polyfield.renderers.carve`, say).
        """
        if kept.numel() != self.values.numel():
            raise ShapeError(
                f"OccupancyGrid: the hull must have {self.levels} x {self.resolution}^3 cells, but has "
                f"{list(kept.shape)}."
            )
        kept = kept.reshape(self.values.shape).to(torch.bool)
        self.values.copy_(torch.where(kept, UNSEEN, CARVED))
        self._carve_covered()
        self.refresh()

    def state(self) -> dict[str, Tensor]:
        """Plain tensors from which `load_state` restores the grid, box included; not copied."""
        return self.state_dict()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave.

        Raises:
            InputError: The state is of a grid with other levels or another resolution.
        """
        wanted = {name: list(tensor.shape) for name, tensor in self.state_dict().items()}
        came = {name: list(tensor.shape) for name, tensor in state.items()}
        if wanted != came:
            raise InputError(
                f"OccupancyGrid: the state must have the tensors {wanted}, but has {came}."
            )
        self.load_state_dict(dict(state))

    def refresh(self) -> None:
        """Derive `distance` from `values` and `threshold`; needed after writing to them."""
        self._occupied = None
        if native.usable(self.values):
            native.core().occupancy_distances(
                self.values.data_ptr(),
                float(self.threshold),
                self.levels,
                self.resolution,
                self.distance.data_ptr(),
            )
            return
        occupied = self.values > self.threshold
        if not occupied.any():
            occupied = self.values >= 0
        if not occupied.any():
            occupied = torch.ones_like(occupied)
        # Without a marcher that jumps, 1 (nothing known about the neighbours) is enough.
        self.distance.copy_((~occupied).to(torch.uint8))

    def _turn(self, cells: int) -> Tensor:
        """The next cells of a walk through all that are not carved away."""
        alive = self._alive
        total = self.values.numel() if alive is None else len(alive)
        cells = min(cells, total)
        turn = torch.arange(cells, device=self.values.device) + int(self.cursor)
        picks = turn * _STRIDE % total
        self.cursor.fill_((int(self.cursor) + cells) % total)
        return picks if alive is None else alive[picks]

    def _draw(self, cells: int, seed: int) -> Tensor:
        """Some cells of all that are not carved away, some around occupied ones, most the occupied ones themselves."""
        alive, occupied = self._alive, self.occupied_cells()
        total = self.values.numel() if alive is None else len(alive)
        if not len(occupied):  # all was carved away
            occupied = torch.arange(total, device=self.values.device)
        ids = torch.empty(cells, dtype=torch.int64, device=self.values.device)
        all_end, near_end = round(_FROM_ALL * cells), round((_FROM_ALL + _NEAR) * cells)
        self._pick(seed + 1, alive, ids[:all_end])
        self._pick_near(seed + 2, occupied, ids[all_end:near_end])
        self._pick(seed + 3, occupied, ids[near_end:])
        return ids

    def _pick(self, seed: int, cells: Tensor | None, ids: Tensor) -> None:
        """Fill `ids` with uniform draws from `cells`; None: from all."""
        total = self.values.numel() if cells is None else len(cells)
        if native.usable(ids):
            address = 0 if cells is None else cells.data_ptr()
            native.core().occupancy_pick(seed, address, total, len(ids), ids.data_ptr())
            return
        picks = random_below(
            random_bits(seed, 2 * torch.arange(len(ids), device=ids.device)), total
        )
        ids.copy_(picks if cells is None else cells[picks])

    def _pick_near(self, seed: int, cells: Tensor, ids: Tensor) -> None:
        """Fill `ids` with cells at most one away along each axis from uniform draws from `cells`.

        Where that lies beyond the level or is carved away, the drawn cell itself is taken.
        """
        n, values = self.resolution, self.values.view(-1)
        if native.usable(ids, values):
            places = cells.data_ptr(), len(cells), values.data_ptr(), n
            native.core().occupancy_pick_near(seed, *places, len(ids), ids.data_ptr())
            return
        bits = random_bits(seed, 2 * torch.arange(len(ids), device=ids.device))
        drawn = cells[random_below(bits, len(cells))]
        around = ((bits & 0xFFFFFFFF) * 27) >> 32
        by = torch.stack([around // 9, around // 3 % 3, around % 3], 1) - 1
        strides = torch.tensor([n * n, n, 1], device=ids.device)
        place = drawn[:, None] // strides % n + by
        inside = ((place >= 0) & (place < n)).all(1)
        near = torch.where(inside, drawn + (by * strides).sum(1), drawn)
        ids.copy_(torch.where(values[near] >= 0, near, drawn))

    def _carve_covered(self) -> None:
        """Leave to each level what lies over it: points there never ask the coarser one."""
        n = self.resolution
        middle = slice(n // 4, 3 * n // 4)
        self.values.view(self.levels, n, n, n)[1:, middle, middle, middle] = CARVED
        self._find_alive()

    def _find_alive(self) -> None:
        alive = self.values.view(-1) >= 0
        self._alive = None if alive.all() or not alive.any() else alive.nonzero()[:, 0]


def _after_loading(module: torch.nn.Module, _keys: Any) -> None:
    grid: OccupancyGrid = module  # type: ignore[assignment]
    grid.refresh()
    grid._find_alive()
