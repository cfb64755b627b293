"""The fused multi-layer perceptron against torch, which is given its best chunk of points."""

from collections.abc import Callable, Iterator

import torch
from harness import Bench, Row
from torch import Tensor

from polyfield.fields.ops.mlp import MlpShape, mlp, mlp_reference

CASES = (
    ("32-64-64-16", MlpShape(32, 16, 64, 2), 1 << 18),
    ("32-64-16", MlpShape(32, 16, 64, 1), 1 << 15),
    ("20-64-16", MlpShape(20, 16, 64, 1), 1 << 13),
    ("32-64-64-3", MlpShape(32, 3, 64, 2), 1 << 15),
    ("63-8x256-4, skip", MlpShape(63, 4, 256, 8, skips=(5,), bias=True), 1 << 13),
)
CHUNKS = (1 << 12, 1 << 14, 1 << 15, 1 << 18)

Network = Callable[[Tensor, Tensor], Tensor]


def rows(bench: Bench) -> Iterator[Row]:
    """Forward, and forward with backward to weights and input.

    Floor: the multiplications at the machine's rate for the precision; the backward pass has twice the forward's.
    """
    for name, shape, points in CASES:
        multiplies = sum(out * columns for out, columns in shape.layers)
        for precision in ("fp32", "bf16"):
            floor = bench.floors[precision] / (2 * multiplies)
            case = f"{name} {precision}, {points} points"
            x = torch.randn(shape.inputs, points).t()  # as a hash grid lays its features out
            weights = torch.randn(shape.parameters) * 0.1
            gradient = torch.randn(shape.outputs, points).t()

            def ours(
                x: Tensor, w: Tensor, shape: MlpShape = shape, precision: str = precision
            ) -> Tensor:
                return mlp(x, w, shape, precision)

            peer_type = torch.bfloat16 if precision == "bf16" else torch.float32
            peers = list(torch_peers(bench, shape))
            data = (x, weights, gradient)
            peer_data = tuple(t.contiguous().to(peer_type) for t in data)
            chunks = [chunk for chunk in CHUNKS if chunk <= points]
            for label, measure, work in (("forward", forward, 1), ("forward+backward", both, 3)):
                mine = bench.time(measure(ours, *data, points))
                best = min(
                    bench.time(measure(peer, *peer_data, chunk))
                    for peer in peers
                    for chunk in chunks
                )
                yield Row(f"mlp {label}", case, points / mine, points / best, floor / work)
    yield fixed_cost(bench)


def torch_peers(bench: Bench, shape: MlpShape) -> Iterator[Network]:
    def eager(x: Tensor, weights: Tensor) -> Tensor:
        return mlp_reference(x, weights, shape)

    yield eager
    if bench.compile:
        yield torch.compile(eager, dynamic=False)


def forward(
    network: Network, x: Tensor, weights: Tensor, gradient: Tensor, chunk: int
) -> Callable[[], object]:
    def run() -> None:
        with torch.no_grad():
            for part in x.split(chunk):
                network(part, weights)

    del gradient
    return run


def both(
    network: Network, x: Tensor, weights: Tensor, gradient: Tensor, chunk: int
) -> Callable[[], object]:
    weights = weights.clone().requires_grad_()
    parts = [
        (part.detach().requires_grad_(), grad)
        for part, grad in zip(x.split(chunk), gradient.split(chunk), strict=True)
    ]

    def run() -> None:
        weights.grad = None
        for part, grad in parts:
            part.grad = None
            network(part, weights).backward(grad)

    return run


def fixed_cost(bench: Bench) -> Row:
    """A call of 16 points, whose time is all overhead."""
    shape = MlpShape(32, 16, 64, 1)
    x, weights = torch.randn(16, 32), torch.randn(shape.parameters)
    seconds = bench.time(lambda: mlp(x, weights, shape))
    return Row("mlp forward", f"fixed cost: {seconds * 1e6:.1f} us a call", 16 / seconds)
