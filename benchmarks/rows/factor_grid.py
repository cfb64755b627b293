"""Products of planes and lines against torch's grid_sample, as TensoRF's and K-planes' own code reads them."""

from collections.abc import Callable, Iterator

import torch
from harness import Bench, Row
from torch import Generator, Tensor

from polyfield.fields.ops.factor_grid import FactorLayout, factor_grid
from polyfield.fields.ops.sparse_gradient import SparseGradient
from polyfield.fields.registry import build_encoder

POINTS = 1 << 17
CHUNKS = (1 << 12, 1 << 14, POINTS)
CASES = {
    "VM 16 x 300": {"kind": "vm", "channels": 16, "side": 300},
    "VM 48 x 300": {"kind": "vm", "channels": 48, "side": 300},
    "CP 96 x 500": {"kind": "cp", "channels": 96, "side": 500},
    "K-planes 16 x 64 1 2 4 8": {"kind": "kplanes"},
}


def rows(bench: Bench) -> Iterator[Row]:
    """Forward, forward with backward to the table, and the gradient to the points, on random points.

    Peer: grid_sample of pictures [C, H, W], its gradient to them. Floor: one line of 64 bytes for every 16 channels of
    every vertex around the point, at the rate of random reads from 4 MiB. What is added is counted as another read.
    """
    x = torch.rand(POINTS, 3, generator=Generator().manual_seed(0))
    for name, config in CASES.items():
        encoder = build_encoder(config, 3, Generator().manual_seed(0))
        layout: FactorLayout = encoder.layout
        upstream = torch.randn(POINTS, layout.out_dim)
        pictures = [part.requires_grad_() for part in as_pictures(encoder.table.detach(), layout)]
        sparse = SparseGradient(encoder.table)

        def forward(encoder: Callable[[Tensor], Tensor] = encoder) -> None:
            with torch.no_grad():
                encoder(x)

        def both(encoder: Callable[[Tensor], Tensor] = encoder, g: Tensor = upstream) -> None:
            encoder(x).backward(g)

        def slope(
            table: Tensor = encoder.table,
            layout: FactorLayout = layout,
            g: Tensor = upstream,
            sparse: SparseGradient = sparse,
        ) -> None:
            leaf = x.detach().requires_grad_()
            torch.autograd.grad(factor_grid(leaf, table, layout, gradient=sparse), leaf, g)

        def peer(
            chunk: int,
            backward: bool,
            pictures: list[Tensor] = pictures,
            layout: FactorLayout = layout,
            g: Tensor = upstream,
        ) -> None:
            for points, part in zip(x.split(chunk), g.split(chunk), strict=True):
                with torch.set_grad_enabled(backward):
                    y = sampled(points, pictures, layout)
                    if backward:
                        torch.autograd.grad(y, pictures, part)

        best = [
            min(bench.time(lambda c=c, b=b, peer=peer: peer(c, b)) for c in CHUNKS)
            for b in (False, True)
        ]
        reads = sum(2 ** len(factor.axes) for factor in layout.factors) * -(-layout.channels // 16)
        floor = bench.floors["gather_4mb"] / reads
        case = f"{name}, {POINTS} points"
        yield Row(
            "factor grid forward", case, POINTS / bench.time(forward), POINTS / best[0], floor
        )
        yield Row(
            "factor grid forward+backward",
            case,
            POINTS / bench.time(both),
            POINTS / best[1],
            floor / 2,
        )
        yield Row("factor grid forward+slope", case, POINTS / bench.time(slope), None, floor / 2)


def as_pictures(table: Tensor, layout: FactorLayout) -> list[Tensor]:
    """Copy each factor as [1, C, H, W], a line as a picture of one column."""
    result = []
    for factor, row in zip(layout.factors, layout.first_rows, strict=True):
        sides = (*reversed(factor.sides), 1)[:2]
        values = table[row : row + factor.rows].t().reshape(1, layout.channels, *sides)
        result.append(values.contiguous())
    return result


def sampled(x: Tensor, pictures: list[Tensor], layout: FactorLayout) -> Tensor:
    """Encode as `factor_grid` does, by grid_sample."""
    rest, groups = iter(pictures), []
    for group in layout.groups:
        product = None
        for factor in group:
            places = 2 * x[:, list(factor.axes)] - 1
            if len(factor.axes) == 1:
                places = torch.cat([torch.zeros_like(places), places], 1)
            values = torch.nn.functional.grid_sample(
                next(rest), places.view(1, -1, 1, 2), align_corners=True
            )
            read = values.view(layout.channels, -1)
            product = read if product is None else product * read
        groups.append(product)
    return torch.cat(groups).t()
