"""The hash grid against its plain-torch reference, and against the table reads that it cannot do without.

On three sets of points: random ones; the samples of a patch of neighbouring pixels; and a recorded batch, what training
rays of the lego scene have left after the occupancy grid is carved (where POLYFIELD_DATA has that scene).
"""

import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from harness import Bench, Row
from torch import Generator, Tensor

from polyfield.datasets.load import load_scene
from polyfield.fields.encoders.hash_grid import HashGrid
from polyfield.fields.model import build_model
from polyfield.fields.ops.hash_grid import GridGeometry, hash_grid_reference
from polyfield.fields.presets import preset
from polyfield.renderers.march import MarchSettings, march
from polyfield.renderers.volume import VolumeRenderer
from polyfield.training.interest import Interest
from polyfield.training.placement import place
from polyfield.training.ray_source import RaySource

CASES = (
    ("L16 F2 T2^19", GridGeometry(), 1 << 18),
    ("L8 F4 T2^19", GridGeometry(levels=8, features=4), 1 << 15),
    ("L5 F4 T2^18", GridGeometry(levels=5, features=4, log2_table=18, finest=1024), 1 << 15),
)
TORCH_POINTS = 1 << 15


def rows(bench: Bench) -> Iterator[Row]:
    """Forward, forward with backward to the table, and the gradient to the points.

    Floor: one 8-byte read for each corner (two for 4 features) at the rate of random reads from 4 MiB. What is added to
    the table is counted as another read. Neighbouring corners often share a line, so points along rays may pass the
    floor.
    """
    batch = recorded()
    for name, geometry, count in CASES:
        grid = HashGrid(geometry, Generator().manual_seed(0))
        reads = geometry.levels * 8 * max(1, geometry.features // 2)
        floor = bench.floors["gather_4mb"] / reads
        sets = {"random": torch.rand(count, 3), "patch": patch(count)}
        if batch is not None:
            sets["recorded"] = batch[:count]
        peers: list[Callable[..., Tensor]] = [hash_grid_reference]
        if bench.compile:
            peers.append(torch.compile(hash_grid_reference, dynamic=False))
        for order, x in sets.items():
            case = f"{name}, {count} points, {order}"
            upstream = torch.randn(geometry.out_dim, count).t()

            def forward(x: Tensor = x, grid: HashGrid = grid) -> None:
                with torch.no_grad():
                    grid(x)

            def both(x: Tensor = x, grid: HashGrid = grid, upstream: Tensor = upstream) -> None:
                grid(x).backward(upstream)

            def slope(x: Tensor = x, grid: HashGrid = grid, upstream: Tensor = upstream) -> None:
                leaf = x.detach().requires_grad_()
                torch.autograd.grad(grid(leaf), leaf, upstream)

            def peer(
                encode: Callable[..., Tensor],
                backward: bool,
                few: Tensor = x[:TORCH_POINTS],
                g: Tensor = upstream[:TORCH_POINTS],
                grid: HashGrid = grid,
                geometry: GridGeometry = geometry,
            ) -> None:
                with torch.set_grad_enabled(backward):
                    y = encode(few, grid.table, geometry)
                    if backward:
                        torch.autograd.grad(y, grid.table, g)

            torch_forward, torch_both = (
                TORCH_POINTS
                / min(bench.time(lambda e=e, b=b, peer=peer: peer(e, b)) for e in peers)
                for b in (False, True)
            )
            yield Row("hash grid forward", case, count / bench.time(forward), torch_forward, floor)
            yield Row(
                "hash grid forward+backward", case, count / bench.time(both), torch_both, floor / 2
            )
            yield Row("hash grid forward+slope", case, count / bench.time(slope), None, floor / 2)
    yield fixed_cost(bench)


def patch(count: int) -> Tensor:
    """Samples of neighbouring pixels, ray after ray: 64 steps of sqrt(3) / 1024 along each, as a picture is drawn."""
    rays = count // 64
    side = math.ceil(rays**0.5)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    plane = torch.stack([x, y], -1).reshape(-1, 1, 2)[:rays] / 800 - 0.05
    ahead = torch.ones(len(plane), 1, 1)
    direction = torch.nn.functional.normalize(torch.cat([plane, ahead], -1), dim=-1)
    steps = torch.arange(64)[:, None] * (3**0.5 / 1024)
    points = torch.tensor([0.4, 0.5, 0.0]) + direction * (0.5 + steps)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=Generator().manual_seed(0)))[0]
    return ((points.reshape(-1, 3) - 0.5) @ turn + 0.5).clamp(0, 1).contiguous()


def recorded() -> Tensor | None:
    """The samples of training rays of lego in its carved grid, in the unit cube; 2^18 of them."""
    own = Path(__file__).resolve().parents[2]
    data = Path(os.environ.get("POLYFIELD_DATA", own.parent / "shared" / "data"))
    path = data / "scenes" / "blender-lego"
    if not path.is_dir():
        print(f"(no recorded batch: {path} is not there)", file=sys.stderr)
        return None
    scene = load_scene(path, downscale=4)
    domain, render, _ = place(scene)
    model = build_model(
        "radiance", {"field": preset("hashgrid")["field"], "domain": domain, "render": render}
    )
    renderer = VolumeRenderer(model)
    renderer.carve(scene)
    balls = renderer.grid.occupied_balls(beside=0)
    source = RaySource(scene, 0, Interest.of(scene, scene.split["train"], *balls))
    config = renderer.config
    settings = MarchSettings(config.step, config.cone)
    parts: list[Tensor] = []
    while sum(map(len, parts)) < 1 << 18:
        batch = source.next(4096)
        parts.append(
            march(
                batch.origins, batch.directions, config.near, config.far, renderer.grid, settings
            ).positions
        )
    unit, _ = renderer.field.domain.place(torch.cat(parts)[: 1 << 18])
    return unit.contiguous()


def fixed_cost(bench: Bench) -> Row:
    """One point, forward: what a call costs before any work."""
    grid = HashGrid(GridGeometry(levels=5, log2_table=14), Generator().manual_seed(0))
    x = torch.rand(1, 3)

    def forward() -> None:
        with torch.no_grad():
            grid(x)

    return Row("hash grid fixed cost", "L5 F2, 1 point", 1 / bench.time(forward))
