"""Marching cubes beside scikit-image's, which decides the same cases, in one run; and beside reading the array once.

A sphere has few cells on its surface, a gyroid many. Scikit-image (its Lewiner variant) uses one thread and computes
normals too.

usage: python benchmarks/marching_cubes.py [--side 256] [--threads 2]
"""

import argparse
import json
from functools import partial

import torch
from harness import Bench, measure_floors
from skimage.measure import marching_cubes as marching_cubes_of_scikit
from torch import Tensor

from polyfield.meshing.marching_cubes import marching_cubes


def shapes(side: int) -> dict[str, Tensor]:
    """Functions on a lattice of side^3 points."""
    line = torch.linspace(-1, 1, side)
    x, y, z = torch.meshgrid(line, line, line, indexing="ij")
    a, b, c = 12 * x, 12 * y, 12 * z
    return {
        "sphere": (x * x + y * y + z * z).sqrt() - 0.7,
        "gyroid": a.sin() * b.cos() + b.sin() * c.cos() + c.sin() * a.cos(),
        "noise": torch.randn(side, side, side, generator=torch.Generator().manual_seed(0)),
    }


def main() -> None:
    """Print a row for each shape, and JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    bench = Bench(args.threads, measure_floors(args.threads))
    rows = []
    print(
        f"{'shape':<8} {'faces':>10} {'ms':>8} {'M values/s':>10} {'scikit-image':>12} {'floor':>6}"
    )
    for name, values in shapes(args.side).items():
        mine = bench.time(partial(marching_cubes, values))
        theirs = bench.time(partial(marching_cubes_of_scikit, values.numpy(), 0.0))
        floor = 4 * values.numel() / bench.floors["stream"]
        row = {
            "shape": name,
            "faces": len(marching_cubes(values).faces),
            "seconds": mine,
            "values_per_s": values.numel() / mine,
            "times_scikit_image": theirs / mine,
            "share_of_floor": floor / mine,
        }
        rows.append(row)
        print(
            f"{name:<8} {row['faces']:>10,} {1e3 * mine:8.1f} {row['values_per_s'] / 1e6:10.0f} "
            f"{row['times_scikit_image']:11.1f}x {row['share_of_floor']:6.0%}"
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
