"""Heads against torch, which is given its best chunk of points: Gaussian neurons, composed networks, modulated rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from harness import Bench, Row
from torch import Generator, Tensor

from polyfield.fields.ops.mlp import MlpShape, mlp, mlp_reference
from polyfield.fields.ops.modulate import modulate, modulate_reference
from polyfield.fields.ops.rbf import RbfLayer, distance_layer, rbf

POINTS = 1 << 17
CHUNKS = (1 << 12, 1 << 14, POINTS)

Run = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """What is run, on inputs of which those with a row for each point are cut into chunks for torch.

    Attributes:
        floor: Points a second forward.
        backward: How many times longer the floor is with the backward pass.
    """

    name: str
    ours: Run
    peer: Run
    inputs: Sequence[Tensor]
    upstream: Tensor
    floor: float
    backward: float = 3.0


def rows(bench: Bench) -> Iterator[Row]:
    """Forward, and forward with backward to all inputs.

    Floors: the multiplications at the machine's rate in fp32, the backward pass having twice the forward's; for
    modulated rows the bytes read and written.
    """
    for case in (*gaussian_neurons(bench), *composed(bench), *modulated(bench)):
        yield from measured(bench, case)


def gaussian_neurons(bench: Bench) -> Iterator[Case]:
    """The paper's sizes for pictures (a hash grid of 32 features) and shapes (18), and the networks they replace."""
    for features, outputs in ((32, 3), (18, 1)):
        x, upstream = numbers(features, POINTS).t(), numbers(outputs, POINTS).t()
        tensors = (
            *(numbers(64, features), numbers(64, features) * 0.1 - 3),
            *(numbers(outputs, 64), numbers(outputs)),
        )
        floor = bench.floors["fp32"] / (2 * 64 * (2 * features + outputs))
        ours, peer = neurons(rbf), neurons(three_terms)
        yield Case(f"rbf {features}-64-{outputs}", ours, peer, (x, *tensors), upstream, floor)
        yield network(bench, "mlp", MlpShape(features, outputs, 64, 2))


def neurons(function: Callable[[Tensor, RbfLayer], Tensor]) -> Run:
    return lambda x, *tensors: function(x, RbfLayer(*tensors))


def three_terms(x: Tensor, layer: RbfLayer) -> Tensor:
    """Gaussian neurons in plain torch, as quick as it can."""
    matrix, constant = distance_layer(layer.centres, layer.log_precisions)
    distances = torch.addmm(constant, torch.cat([x * x, x], 1), matrix.t())
    return torch.addmm(layer.bias, torch.exp(-0.5 * distances.clamp(min=0)), layer.weights.t())


def composed(bench: Bench) -> Iterator[Case]:
    """NeuRBF's decoder of pictures, and the same network without its sines."""
    for name, frequencies in (("composed mlp", (10.0, 100.0)), ("mlp, biases", ())):
        yield network(bench, name, MlpShape(36, 3, 64, 2, bias=True, composition=frequencies))


def network(bench: Bench, name: str, shape: MlpShape) -> Case:
    inputs = numbers(shape.inputs, POINTS).t(), numbers(shape.parameters) * 0.1
    multiplies = sum(out * columns for out, columns in shape.layers)
    return Case(
        f"{name} {shape.inputs}-64-64-{shape.outputs}",
        lambda x, w: mlp(x, w, shape),
        lambda x, w: mlp_reference(x, w, shape),
        inputs,
        numbers(shape.outputs, POINTS).t(),
        bench.floors["fp32"] / (2 * multiplies),
    )


def modulated(bench: Bench) -> Iterator[Case]:
    for columns, points in ((64, POINTS), (256, POINTS // 4)):
        inputs = numbers(points, columns), numbers(points), numbers(points)
        # Forward reads and writes a row; backward reads two and writes one.
        floor, backward = bench.floors["stream"] / (8 * columns), 2.5
        upstream = numbers(points, columns)
        name = f"modulate {columns} columns"
        yield Case(name, modulate, modulate_reference, inputs, upstream, floor, backward)


def measured(bench: Bench, case: Case) -> Iterator[Row]:
    points = len(case.upstream)
    leaves = [t.detach().requires_grad_() for t in case.inputs]

    def run(function: Run, chunk: int, backward: bool) -> None:
        parts = [t.split(chunk) if len(t) == points else None for t in leaves]
        for number, g in enumerate(case.upstream.split(chunk)):
            given = [t if p is None else p[number] for t, p in zip(leaves, parts, strict=True)]
            with torch.set_grad_enabled(backward):
                y = function(*given)
                if backward:
                    torch.autograd.grad(y, given, g)

    for label, backward in (("forward", False), ("forward+backward", True)):
        mine = bench.time(lambda b=backward: run(case.ours, points, b))
        chunks = [chunk for chunk in CHUNKS if chunk <= points]
        best = min(bench.time(lambda c=c, b=backward: run(case.peer, c, b)) for c in chunks)
        floor = case.floor / case.backward if backward else case.floor
        yield Row(label, f"{case.name}, {points} points", points / mine, points / best, floor)


def numbers(*size: int) -> Tensor:
    return torch.randn(*size, generator=Generator().manual_seed(0))
