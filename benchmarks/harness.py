"""Measuring kernels: medians of repeated calls, and the rates that this machine reaches at best.

A benchmark row compares points a second of ours, of plain torch, and of the floor: the time that an operation cannot
beat because of the bytes it moves, the table entries it gathers or the multiplications it does, at the rates measured
in the same run (`Bench.floors`). Other programs on the machine change all of them alike, so ratios are what to read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from time import perf_counter, process_time

import torch

from polyfield import native

__all__ = ["Bench", "Row", "measure_floors"]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: The operation: "mlp forward".
        case: Its sizes: "32-64-64-16 bf16, 2^18 points".
        points_per_s: Ours.
        torch_points_per_s: The best plain torch does, where compared.
        floor_points_per_s: What the machine allows, where known.
    """

    name: str
    case: str
    points_per_s: float
    torch_points_per_s: float | None = None
    floor_points_per_s: float | None = None


@dataclass(frozen=True)
class Bench:
    """What a row file gets: a clock, the number of threads, and the floors at that number.

    Attributes:
        threads: Threads in use, by torch and by the kernels.
        floors: "fp32", "bf16": floating point operations a second; "stream": bytes read and written a second by a copy;
            "gather_1mb", "gather_4mb", "gather_64mb": random 8-byte reads a second from tables of that size.
        compile: Whether to include torch.compile among the peers (slow to start).
        clock: "wall", or "cpu" for processor seconds divided by `threads`: what the wall clock would say if nothing
            else ran and all threads were busy. For machines that are shared; it flatters whatever leaves threads idle.
    """

    threads: int
    floors: Mapping[str, float] = field(default_factory=dict)
    compile: bool = False
    clock: str = "wall"

    def now(self) -> float:
        """Seconds on the chosen clock."""
        return perf_counter() if self.clock == "wall" else process_time() / self.threads

    def time(self, run: Callable[[], object]) -> float:
        """Return the median seconds of a call: one call to warm up, then 5 to 25 within about half a second.

        A call under a millisecond (40 on the cpu clock) is repeated inside each measurement.
        """
        run()
        start = perf_counter()
        run()
        once = max(perf_counter() - start, 1e-7)
        shortest = 1e-3 if self.clock == "wall" else 0.04  # other threads' time comes in ticks
        inner = max(1, int(shortest / once))
        repeats = min(25, max(5, int(0.5 / (once * inner))))
        times = []
        for _ in range(repeats):
            start = self.now()
            for _ in range(inner):
                run()
            times.append((self.now() - start) / inner)
        return median(times)


def measure_floors(threads: int, clock: str = "wall") -> dict[str, float]:
    """Measure the rates of `Bench.floors`, in about two seconds.

    Raises:
        RunError: The native module is not there; its loops are what is measured.
    """
    core = native.core()
    bench = Bench(threads, clock=clock)
    floors = {}
    rounds = 100_000
    for name, multiply in (
        ("fp32", core.ceiling_multiply_fp32),
        ("bf16", core.ceiling_multiply_bf16),
    ):
        floors[name] = multiply(rounds) / bench.time(partial(multiply, rounds))
    generator = torch.Generator().manual_seed(0)
    count = 1 << 20
    for megabytes in (1, 4, 64):
        entries = (megabytes << 20) // 8
        table = torch.ones(entries, dtype=torch.int64)
        indices = torch.randint(entries, (count,), generator=generator, dtype=torch.int32)
        gather = partial(core.ceiling_gather, table.data_ptr(), indices.data_ptr(), count)
        floors[f"gather_{megabytes}mb"] = count / bench.time(gather)
    size = 16 << 20  # 64 MB of floats each, past the caches of most machines
    source, target = torch.ones(size), torch.ones(size)
    copy = partial(core.ceiling_copy, target.data_ptr(), source.data_ptr(), size)
    floors["stream"] = 2 * 4 * size / bench.time(copy)
    return floors
