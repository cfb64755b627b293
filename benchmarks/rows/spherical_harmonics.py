"""Spherical harmonics of directions against the torch reference, given its best chunk and, when asked for, compiled."""

from collections.abc import Iterator

import torch
from harness import Bench, Row
from torch import Tensor

from polyfield.fields.ops.spherical_harmonics import (
    spherical_harmonics,
    spherical_harmonics_reference,
)

POINTS = 1 << 18
CHUNKS = (1 << 12, 1 << 14, 1 << 16)


def rows(bench: Bench) -> Iterator[Row]:
    """Forward, and forward with backward to the directions. Floor: the bytes read and written."""
    peers = [spherical_harmonics_reference]
    if bench.compile:
        peers.append(torch.compile(spherical_harmonics_reference))
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(POINTS, 3, generator=generator)
    directions = torch.nn.functional.normalize(raw, dim=-1)
    for degree in (2, 4, 8, 16):
        values = 4 * degree**2  # bytes a point
        case = f"degree {degree}, {POINTS} points"
        gradient = torch.randn(POINTS, degree**2, generator=generator)

        def forward(function: object, chunk: int, degree: int = degree) -> None:
            with torch.no_grad():
                for part in directions.split(chunk):
                    function(part, degree)  # type: ignore[operator]

        def both(
            function: object, chunk: int, degree: int = degree, gradient: Tensor = gradient
        ) -> None:
            for part, g in zip(directions.split(chunk), gradient.split(chunk), strict=True):
                part = part.detach().requires_grad_()
                function(part, degree).backward(g)  # type: ignore[operator]

        for label, work, traffic in (
            ("forward", forward, 12 + values),
            ("forward+backward", both, 36 + 2 * values),
        ):
            ours = bench.time(lambda work=work: work(spherical_harmonics, POINTS))
            best = min(
                bench.time(lambda work=work, peer=peer, chunk=chunk: work(peer, chunk))
                for peer in peers
                for chunk in CHUNKS
            )
            floor = bench.floors["stream"] / traffic
            yield Row(f"spherical harmonics {label}", case, POINTS / ours, POINTS / best, floor)
