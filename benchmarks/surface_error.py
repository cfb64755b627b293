"""How well fitted distances know a surface, told with fewer points than IoU needs.

A thousandth of the volume is a hair's breadth of the surface: of 2^22 points of the cube some 60 lie in it where a mesh
fills 1.5 % of the cube, so that two trainings of one field differ by a tenth in 1 - IoU. Here points are drawn within
0.004 of the surface, along normals, and the share of those on the wrong side is turned into a volume by the area of the
mesh (right for wrong places that are thinner than its radii of curvature). What is wrong farther away is told apart.

usage: python benchmarks/surface_error.py MESH RUN... [--points 524288]
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.shape_metrics import normal_error
from polyfield.datasets.surface_samples import outward, surface_points
from polyfield.fields import model_file
from polyfield.training.shape_fit import load

REACH = 0.004
AT_ONCE = 1 << 17


def volume(mesh: Mesh) -> float:
    """What a closed mesh encloses, by the divergence theorem."""
    a, b, c = mesh.corners.unbind(1)
    return abs(float((a * torch.linalg.cross(b, c)).sum())) / 6


def values(model: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """The model's distances [N] at points [N, 3] of [-1, 1]^3."""
    return torch.cat([model((some + 1) / 2)[:, 0] for some in points.split(AT_ONCE)])


def slopes(model: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The gradient of the model's distances, a function of points."""

    def at(points: Tensor) -> Tensor:
        points = points.clone().requires_grad_()
        (slope,) = torch.autograd.grad(values(model, points).sum(), points)
        return slope

    return at


def main() -> None:
    """Print a row for each run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mesh", type=Path)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--points", type=int, default=1 << 19)
    args = parser.parse_args()
    generator = Generator().manual_seed(30)
    distance = load(args.mesh).distance
    area, inside = float(distance.mesh.areas.sum()), volume(distance.mesh)
    surface = outward(surface_points(distance.mesh, args.points, generator), distance)
    along = REACH * (2 * torch.rand(args.points, 1, generator=generator) - 1)
    near = surface.positions + along * surface.normals
    near_truth = distance.signed(near) < 0
    far = 2 * torch.rand(args.points, 3, generator=generator) - 1
    far_distance = distance.signed(far)
    beyond = far_distance.abs() > REACH
    far, far_truth = far[beyond], far_distance[beyond] < 0
    print(
        f"{args.mesh.name}: area {area:.3f}, volume {inside:.4f}, one over the other {area / inside:.1f}"
    )
    print("1 - IoU near the surface, far from it; |value| on the surface; normals off by, degrees")
    for run in args.runs:
        field = model_file.load(run).module
        with torch.no_grad():
            wrong_near = ((values(field, near) < 0) != near_truth).double().mean().item()
            wrong_far = ((values(field, far) < 0) != far_truth).double().sum().item()
            off = values(field, surface.positions).abs().mean().item()
        print(
            f"{run.name:<16} {wrong_near * 2 * REACH * area / inside:.5f}  "
            f"{wrong_far * 8 / args.points / inside:.5f}  {off:.2e}  {normal_error(slopes(field), surface):.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
