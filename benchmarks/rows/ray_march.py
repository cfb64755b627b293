"""Ray marching through an object's occupancy grid, as a training step and as a picture do it."""

from collections.abc import Iterator
from functools import partial

import torch
from harness import Bench, Row
from torch import Tensor

from polyfield.renderers.march import MarchSettings, march, march_stretch_reference
from polyfield.renderers.occupancy import OccupancyGrid

RAYS = 6144
STEP = 2 * 1.5 * 3**0.5 / 1024


def rows(bench: Bench) -> Iterator[Row]:
    """Samples a second.

    Floor: what is written, 24 bytes a sample, at the rate of a copy. Torch marches a sixteenth of the rays: it makes
    every sample of the lattice before it drops those in empty cells.
    """
    generator = torch.Generator().manual_seed(0)
    for name, levels, cone in (("object", 1, 0.0), ("4 cascades", 4, 1 / 256)):
        grid = shell(levels)
        origins, directions = rays(RAYS, generator)
        jitter = torch.rand(RAYS, generator=generator)
        settings = MarchSettings(STEP, cone)
        arguments = (origins, directions, 0.1, 100.0, grid, settings, jitter)
        samples = len(march(*arguments))
        mine = bench.time(partial(march, *arguments))
        few = RAYS // 16
        less = (origins[:few], directions[:few], 0.1, 100.0, grid, settings, jitter[:few])
        theirs = bench.time(partial(march_stretch_reference, *less))
        yield Row(
            "ray march",
            f"{name}, {RAYS} rays, {samples} samples, {1e3 * mine:.2f} ms",
            samples / mine,
            len(march(*less)) / theirs,
            bench.floors["stream"] / 24,
        )


def shell(levels: int) -> OccupancyGrid:
    """A grid in which the surface of a ball and of a slab are occupied: 5 % of the finest cells."""
    grid = OccupancyGrid((-1.5,) * 3, (1.5,) * 3, levels=levels)
    axis = (torch.arange(128) + 0.5) / 64 - 1
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    ball = ((x**2 + y**2 + z**2).sqrt() - 0.45).abs() < 0.04
    slab = (z + 0.4).abs().lt(0.02) & (x.abs() < 0.6) & (y.abs() < 0.6)
    grid.set_from_hull((ball | slab).expand(levels, -1, -1, -1))
    return grid


def rays(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rays from all sides, aimed at the middle of the box like those of pictures that it fills."""
    origins = 4 * torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    aims = (torch.rand(count, 3, generator=generator) - 0.5) * 2.4
    return origins, torch.nn.functional.normalize(aims - origins, dim=1)
