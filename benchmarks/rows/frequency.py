"""The frequency encoding against the torch reference, given its best chunk and, when asked for, compiled."""

from collections.abc import Iterator

import torch
from harness import Bench, Row

from polyfield.fields.ops.frequency import frequency, frequency_reference

POINTS = 1 << 17
CHUNKS = (1 << 12, 1 << 14, 1 << 16)


def rows(bench: Bench) -> Iterator[Row]:
    """Forward of NeRF's two encodings. Floor: the bytes read and written."""
    peers = [frequency_reference]
    if bench.compile:
        peers.append(torch.compile(frequency_reference))
    x = torch.rand(POINTS, 3, generator=torch.Generator().manual_seed(0))
    for octaves in (4, 10):

        def forward(function: object, chunk: int, octaves: int = octaves) -> None:
            with torch.no_grad():
                for part in x.split(chunk):
                    function(part, octaves, True)  # type: ignore[operator]

        ours = bench.time(lambda forward=forward: forward(frequency, POINTS))
        best = min(
            bench.time(lambda forward=forward, peer=peer, chunk=chunk: forward(peer, chunk))
            for peer in peers
            for chunk in CHUNKS
        )
        floor = bench.floors["stream"] / (12 + 12 * (2 * octaves + 1))
        case = f"{octaves} octaves of 3 coordinates, {POINTS} points"
        yield Row("frequency forward", case, POINTS / ours, POINTS / best, floor)
