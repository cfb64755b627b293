"""Compositing: 4096 rays of 64 samples, and a training step's short rays; and what goes with it."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from harness import Bench, Row
from torch import Tensor

from polyfield.renderers.composite import (
    composite,
    composite_reference,
    visible,
    visible_reference,
)
from polyfield.renderers.roulette import select_important, select_important_reference


def rows(bench: Bench) -> Iterator[Row]:
    """Samples a second.

    Floors: bytes read and written at the rate of a copy: forward reads 24 and writes 4 a sample; with backward another
    28 read and 16 written.
    """
    stream = bench.floors["stream"]
    for rays, each in ((4096, 64), (4096, 8)):
        samples = rays * each
        case = f"{rays} x {each}"
        data = batch(rays, each)
        mine = bench.time(partial(forward, composite, data))
        best = min(bench.time(partial(forward, f, data)) for f in (composite_reference, dense))
        yield Row("composite forward", case, samples / mine, samples / best, stream / 28)
        mine = bench.time(partial(both, composite, data))
        best = min(bench.time(partial(both, f, data)) for f in (composite_reference, dense))
        yield Row("composite forward+backward", case, samples / mine, samples / best, stream / 72)
        seen = (data[0], data[2], data[3], data[4], 1e-3)
        mine = bench.time(partial(visible, *seen))
        best = bench.time(partial(visible_reference, *seen))
        yield Row("visible", case, samples / mine, samples / best, stream / 20)
    importance = torch.rand(1 << 15) ** 8
    mine = bench.time(partial(select_important, importance, 1 << 13, 0.5))
    best = bench.time(partial(select_important_reference, importance, 1 << 13, 0.5))
    yield Row("roulette", f"2^15 samples, {1e3 * mine:.3f} ms", (1 << 15) / mine, (1 << 15) / best)


def batch(rays: int, each: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    samples = rays * each
    t = torch.arange(samples + 1) * 0.01
    return (
        (torch.rand(samples, generator=generator) * 100 / each).requires_grad_(),
        torch.rand(samples, 3, generator=generator).requires_grad_(),
        t[:-1].contiguous(),
        t[1:].contiguous(),
        torch.arange(rays + 1) * each,
        torch.rand(rays, 3, generator=generator),
    )


def dense(
    sigma: Tensor, rgb: Tensor, t0: Tensor, t1: Tensor, offsets: Tensor, background: Tensor
) -> tuple[Tensor, ...]:
    """The quickest way in torch, which holds for rays of one length only."""
    rays = len(offsets) - 1
    tau = (sigma * (t1 - t0)).view(rays, -1)
    through = torch.exp(-torch.cumsum(tau, 1))
    before = torch.cat([torch.ones(rays, 1), through[:, :-1]], 1)
    weights = before - through
    color = (weights[..., None] * rgb.view(rays, -1, 3)).sum(1) + through[:, -1:] * background
    depth = (weights * (0.5 * (t0 + t1)).view(rays, -1)).sum(1)
    return color, depth, weights.sum(1), through[:, -1], weights


def forward(function: Callable[..., object], data: tuple[Tensor, ...]) -> None:
    with torch.no_grad():
        function(*data)


def both(function: Callable[..., object], data: tuple[Tensor, ...]) -> None:
    out = function(*data)
    color = out[0] if isinstance(out, tuple) else out.color  # type: ignore[attr-defined]
    torch.autograd.grad(color, data[:2], torch.ones_like(color))
