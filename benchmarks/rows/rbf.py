"""Radial bases against torch with the neighbours given, and scipy's k-d tree, which would have to find them.

Without scipy the rows that need its tree stay away.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from harness import Bench, Row
from torch import Generator, Tensor

from polyfield.fields.ops.rbf import RbfShape, kernel_values, rbf, rbf_reference
from polyfield.fields.registry import build_encoder

POINTS = 1 << 17
CHUNKS = (1 << 12, 1 << 14, POINTS)


@dataclass(frozen=True)
class Case:
    """An encoder without a grid."""

    name: str
    dim: int
    kernels: int
    neighbours: int
    frequencies: tuple[float, float] | None
    normalise: bool


CASES = (
    Case("2-D K4 F32 sines, 12000", 2, 12_000, 4, (-3.0, 12.0), True),
    Case("3-D K5 F32, 25000", 3, 25_000, 5, None, False),
)


def rows(bench: Bench) -> Iterator[Row]:
    """Neighbours alone, forward, forward with backward to the features; on random points.

    Peer: `rbf_reference` in chunks, or embedding_bag where there are no sines, whichever is quicker. Where neighbours
    are not "given" to both, ours are looked for, and the peer's by the tree. Floor: the lines of 64 bytes of the rows
    that a point reads, at the rate of random reads from 4 MiB; what is added is counted as another read.
    """
    for case in CASES:
        encoder = build_encoder(
            {
                "kind": "neurbf",
                "kernels": case.kernels,
                "neighbours": case.neighbours,
                "frequencies": case.frequencies,
                "normalise": case.normalise,
                "initial_bias": 0,
            },
            case.dim,
            Generator().manual_seed(0),
        )
        x = torch.rand(POINTS, case.dim, generator=Generator().manual_seed(1))
        upstream = torch.randn(POINTS, encoder.out_dim)

        def search(encoder: Any = encoder, x: Tensor = x) -> None:
            encoder.neighbours()(x)

        def forward(ids: Tensor | None = None, encoder: Any = encoder, x: Tensor = x) -> None:
            with torch.no_grad():
                encode(encoder, x, ids)

        def both(
            ids: Tensor | None = None, encoder: Any = encoder, x: Tensor = x, g: Tensor = upstream
        ) -> None:
            encode(encoder, x, ids).backward(g)

        ids = encoder.neighbours()(x)
        forward_peer, both_peer = (best(bench, encoder, x, ids, g) for g in (None, upstream))
        query = tree_query(encoder.centres, x, case.neighbours, bench.threads)
        found = None if query is None else bench.time(query)
        label = f"{case.name}, {POINTS} points"
        floor = bench.floors["gather_4mb"] / (case.neighbours * encoder.shape.channels // 16)
        if found is not None:
            yield Row("rbf neighbours", label, POINTS / bench.time(search), POINTS / found)
        for name, run, peer, bound in (
            ("rbf forward", forward, forward_peer, floor),
            ("rbf forward+backward", both, both_peer, floor / 2),
        ):
            yield Row(
                f"{name}, given",
                label,
                POINTS / bench.time(partial(run, ids)),
                POINTS / peer,
                bound,
            )
            whole = None if found is None else POINTS / (peer + found)
            yield Row(name, label, POINTS / bench.time(run), whole, bound)


def encode(encoder: Any, x: Tensor, ids: Tensor | None) -> Tensor:
    """Encode, looking for neighbours where they are not given."""
    if ids is None:
        ids = encoder.neighbours()(x)
    return rbf(x, ids, encoder.features, encoder.bases(), encoder.shape, gradient=encoder.gradient)


def tree_query(centres: Tensor, x: Tensor, count: int, threads: int) -> Callable[[], Any] | None:
    """Look for neighbours as other programs do."""
    if find_spec("scipy") is None:
        return None
    from scipy.spatial import cKDTree

    tree = cKDTree(centres.numpy())
    return lambda: tree.query(x.numpy(), count, workers=threads)


def best(bench: Bench, encoder: Any, x: Tensor, ids: Tensor, upstream: Tensor | None) -> float:
    """Time torch's quickest way; with `upstream` its backward pass too."""
    table = encoder.features.detach().clone().requires_grad_()
    ways = [summed] if encoder.shape.frequencies else [summed, bagged]

    def run(way: Any, chunk: int) -> None:
        for begin in range(0, POINTS, chunk):
            part = slice(begin, begin + chunk)
            with torch.set_grad_enabled(upstream is not None):
                y = way(x[part], ids[part], table, encoder)
                if upstream is not None:
                    torch.autograd.grad(y, table, upstream[part])

    return min(bench.time(lambda w=w, c=c: run(w, c)) for w in ways for c in CHUNKS)


def summed(x: Tensor, ids: Tensor, table: Tensor, encoder: Any) -> Tensor:
    """Sum weighted rows, all of them made."""
    return rbf_reference(x, ids, table, encoder.bases(), encoder.shape)


def bagged(x: Tensor, ids: Tensor, table: Tensor, encoder: Any) -> Tensor:
    """Sum weighted rows by torch's own operation for that."""
    shape: RbfShape = encoder.shape
    weights = kernel_values(x, ids, encoder.bases(), shape)
    return torch.nn.functional.embedding_bag(ids, table, per_sample_weights=weights, mode="sum")
