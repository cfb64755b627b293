"""The hash grid against its plain-torch reference, and against the table reads that it cannot do without."""

from collections.abc import Iterator

import torch
from harness import Bench, Row
from torch import Generator, Tensor

from polyfield.fields.encoders.hash_grid import HashGrid
from polyfield.fields.ops.hash_grid import GridGeometry, hash_grid_reference

CASES = (
    ("L16 F2 T2^19", GridGeometry(), 1 << 18),
    ("L8 F4 T2^19", GridGeometry(levels=8, features=4), 1 << 15),
    ("L5 F4 T2^18", GridGeometry(levels=5, features=4, log2_table=18, finest=1024), 1 << 15),
)
TORCH_POINTS = 1 << 15


def rows(bench: Bench) -> Iterator[Row]:
    """Forward, forward with backward to the table, and the gradient to the points.

    Floor: one 8-byte read for each corner (two for 4 features) at the rate of random reads from 4 MiB. What is added to
    the table is counted as another read. Neighbouring corners often share a line, so rays may pass the floor.
    """
    for name, geometry, count in CASES:
        grid = HashGrid(geometry, Generator().manual_seed(0))
        reads = geometry.levels * 8 * max(1, geometry.features // 2)
        floor = bench.floors["gather_4mb"] / reads
        for order, x in (("rays", along_rays(count)), ("random", torch.rand(count, 3))):
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

            few, few_upstream = x[:TORCH_POINTS], upstream[:TORCH_POINTS]

            def peer(
                backward: bool,
                few: Tensor = few,
                g: Tensor = few_upstream,
                grid: HashGrid = grid,
                geometry: GridGeometry = geometry,
            ) -> None:
                with torch.set_grad_enabled(backward):
                    y = hash_grid_reference(few, grid.table, geometry)
                    if backward:
                        torch.autograd.grad(y, grid.table, g)

            torch_forward = TORCH_POINTS / bench.time(lambda peer=peer: peer(False))
            torch_both = TORCH_POINTS / bench.time(lambda peer=peer: peer(True))
            yield Row("hash grid forward", case, count / bench.time(forward), torch_forward, floor)
            yield Row(
                "hash grid forward+backward", case, count / bench.time(both), torch_both, floor / 2
            )
            yield Row("hash grid forward+slope", case, count / bench.time(slope), None, floor / 2)
    yield fixed_cost(bench)


def along_rays(count: int) -> Tensor:
    """Points as a renderer orders them: 64 steps of sqrt(3) / 1024 along each ray."""
    generator = Generator().manual_seed(0)
    start = torch.rand(count // 64, 1, 3, generator=generator) * 0.5 + 0.25
    raw = torch.randn(count // 64, 1, 3, generator=generator)
    steps = torch.arange(64)[:, None] * (3**0.5 / 1024)
    ray = start + torch.nn.functional.normalize(raw, dim=-1) * steps
    return ray.clamp(0, 1).reshape(-1, 3).contiguous()


def fixed_cost(bench: Bench) -> Row:
    """One point, forward: what a call costs before any work."""
    grid = HashGrid(GridGeometry(levels=5, log2_table=14), Generator().manual_seed(0))
    x = torch.rand(1, 3)

    def forward() -> None:
        with torch.no_grad():
            grid(x)

    return Row("hash grid fixed cost", "L5 F2, 1 point", 1 / bench.time(forward))
