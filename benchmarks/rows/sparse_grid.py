"""Sparse grids against torch: the rows of eight corners gathered and weighed, or grid_sample where all are kept."""

from collections.abc import Iterator

import torch
from harness import Bench, Row
from torch import Generator, Tensor

from polyfield.fields.ops.sparse_gradient import SparseGradient
from polyfield.fields.ops.sparse_grid import sparse_grid, sparse_grid_reference
from polyfield.fields.ops.total_variation import add_total_variation

POINTS = 1 << 17
CHUNKS = (1 << 14, POINTS)
CHANNELS = 28


def rows(bench: Bench) -> Iterator[Row]:
    """Forward, and forward with backward to the table: points in a shell that is kept, and anywhere in a dense grid.

    Peer: plain torch, that is, `sparse_grid_reference`, or grid_sample of the dense grid. Floor: two lines of 64 bytes
    for each of eight corners, at the rate of random reads from 64 MiB. What is added is counted as another read.
    """
    for case, index, x in (
        ("256, a shell of it", *shell(256)),
        ("64, all of it", *whole(64)),
    ):
        kept = int((index >= 0).sum())
        table = torch.randn(kept, CHANNELS, generator=Generator().manual_seed(0))
        sparse, leaf = SparseGradient(table), table.clone().requires_grad_()
        upstream = torch.randn(POINTS, CHANNELS)
        dense = kept == index.numel()

        def forward(x: Tensor = x, table: Tensor = table, index: Tensor = index) -> None:
            with torch.no_grad():
                sparse_grid(x, table, index)

        def both(
            x: Tensor = x,
            leaf: Tensor = leaf,
            index: Tensor = index,
            sparse: SparseGradient = sparse,
            g: Tensor = upstream,
        ) -> None:
            sparse_grid(x, leaf, index, gradient=sparse).backward(g)

        def peer(
            chunk: int,
            backward: bool,
            x: Tensor = x,
            leaf: Tensor = leaf,
            index: Tensor = index,
            g: Tensor = upstream,
            dense: bool = dense,
        ) -> None:
            for points, part in zip(x.split(chunk), g.split(chunk), strict=True):
                with torch.set_grad_enabled(backward):
                    y = (
                        sampled(points, leaf, index)
                        if dense
                        else sparse_grid_reference(points, leaf, index)
                    )
                    if backward:
                        torch.autograd.grad(y, leaf, part)

        best = [
            min(bench.time(lambda c=c, b=b, peer=peer: peer(c, b)) for c in CHUNKS)
            for b in (False, True)
        ]
        floor = bench.floors["gather_64mb"] / 16
        name = f"{CHANNELS} channels, {case}, {POINTS} points"
        yield Row(
            "sparse grid forward", name, POINTS / bench.time(forward), POINTS / best[0], floor
        )
        yield Row(
            "sparse grid forward+backward",
            name,
            POINTS / bench.time(both),
            POINTS / best[1],
            floor / 2,
        )
        vertices = (index.view(-1) >= 0).nonzero()[:, 0].to(torch.int32)[: kept // 64]
        weights = torch.ones(CHANNELS)

        def smooth(
            table: Tensor = table,
            index: Tensor = index,
            sparse: SparseGradient = sparse,
            vertices: Tensor = vertices,
            weights: Tensor = weights,
        ) -> None:
            add_total_variation(sparse, table, index, vertices, weights)

        yield Row(
            "total variation",
            f"{CHANNELS} channels, {case}, {len(vertices)} vertices",
            len(vertices) / bench.time(smooth),
        )


def shell(side: int) -> tuple[Tensor, Tensor]:
    """Index of a lattice of which a twentieth is kept, around a sphere, and points there."""
    axis = torch.linspace(-1, 1, side)
    radius = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2).sqrt()
    places = ((radius > 0.63) & (radius < 0.71)).view(-1).nonzero()[:, 0]
    index = torch.full((side**3,), -1, dtype=torch.int32)
    index[places] = torch.arange(len(places), dtype=torch.int32)
    generator = Generator().manual_seed(0)
    ways = torch.nn.functional.normalize(torch.randn(POINTS, 3, generator=generator), dim=1)
    x = 0.5 + 0.5 * ways * (0.65 + 0.04 * torch.rand(POINTS, 1, generator=generator))
    return index.view((side,) * 3), x


def whole(side: int) -> tuple[Tensor, Tensor]:
    """Index of a lattice of which all is kept, and points anywhere."""
    index = torch.arange(side**3, dtype=torch.int32).view((side,) * 3)
    return index, torch.rand(POINTS, 3, generator=Generator().manual_seed(0))


def sampled(x: Tensor, table: Tensor, index: Tensor) -> Tensor:
    """Interpolate as `sparse_grid` does where all is kept, by grid_sample."""
    volume = table.view(*index.shape, -1).permute(3, 0, 1, 2)[None]
    read = torch.nn.functional.grid_sample(
        volume, (2 * x - 1).view(1, -1, 1, 1, 3), align_corners=True
    )
    return read.view(CHANNELS, -1).t()
