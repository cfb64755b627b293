"""DualMesh-UDF on six surfaces of known unsigned distance: closed, open, with creases, and one that crosses itself.

All are turned and moved alike, so that nothing lies along the lattice. "Noisy" distances are as a network's: never 0,
and their gradients some degrees off. Printed are the mean and the largest distance of the mesh to the surface, in units
of the cube of side 2; edges of more than two faces and of one, of both in brackets those that are not where sheets
truly meet or end; and the seconds that remain when those of the distance itself are taken off.

usage: python benchmarks/dual_mesh.py [--depth 7]
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from polyfield.datasets.surface_samples import surface_points
from polyfield.meshing.dual_mesh import mesh_unsigned

_W, _X, _Y, _Z = 0.21424427, 0.50936062, 0.20485384, -0.80788988
_SHIFT = torch.tensor([0.0137, -0.0071, 0.0093], dtype=torch.float64)
_TURN = torch.tensor(
    [
        [1 - 2 * (_Y * _Y + _Z * _Z), 2 * (_X * _Y - _W * _Z), 2 * (_X * _Z + _W * _Y)],
        [2 * (_X * _Y + _W * _Z), 1 - 2 * (_X * _X + _Z * _Z), 2 * (_Y * _Z - _W * _X)],
        [2 * (_X * _Z - _W * _Y), 2 * (_Y * _Z + _W * _X), 1 - 2 * (_X * _X + _Y * _Y)],
    ],
    dtype=torch.float64,
)


def _sphere(p: Tensor) -> Tensor:
    return 0.6 * torch.nn.functional.normalize(p, dim=1)


def _torus(p: Tensor) -> Tensor:
    ring = torch.cat(
        [0.5 * torch.nn.functional.normalize(p[:, :2], dim=1), torch.zeros_like(p[:, :1])], 1
    )
    return ring + 0.2 * torch.nn.functional.normalize(p - ring, dim=1)


def _box(p: Tensor) -> Tensor:
    half = torch.tensor([0.55, 0.4, 0.3], dtype=p.dtype)
    clamped = p.clamp(-half, half)
    axis = (half - p.abs()).argmin(1, keepdim=True)
    side = torch.where(p.gather(1, axis) < 0, -1.0, 1.0) * half[axis]
    inside = (p.abs() < half).all(1, keepdim=True)
    return torch.where(inside, clamped.scatter(1, axis, side), clamped)


def _cylinder(p: Tensor) -> Tensor:
    round_ = 0.5 * torch.nn.functional.normalize(p[:, :2], dim=1)
    return torch.cat([round_, p[:, 2:].clamp(-0.5, 0.5)], 1)


def _plate(p: Tensor) -> Tensor:
    return p.clamp(-0.6, 0.6) * torch.tensor([1.0, 1.0, 0.0], dtype=p.dtype)


def _cross(p: Tensor) -> Tensor:
    one = _plate(p)
    other = _plate(p[:, [0, 2, 1]])[:, [0, 2, 1]]
    return torch.where(((p - one).norm(dim=1) <= (p - other).norm(dim=1))[:, None], one, other)


class Shape:
    """A surface told by the closest of its points."""

    def __init__(self, closest: Callable[[Tensor], Tensor]) -> None:
        self._closest = closest

    def local(self, points: Tensor) -> Tensor:
        """Give points in the surface's own frame."""
        return (points.double() - _SHIFT) @ _TURN

    def exact(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Distances [N] and gradients [N, 3], float64."""
        local = self.local(points)
        away = local - self._closest(local)
        distance = away.norm(dim=1)
        return distance, (away / distance.clamp(min=1e-12)[:, None]) @ _TURN.T

    def noisy(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(d^2 + 0.001^2), and normal noise of 0.05 on each part of the gradient: the same for the same point."""
        distance, gradient = self.exact(points)
        way = points.double() @ torch.tensor([[12.9898], [78.233], [37.719]]).double()
        seed = torch.frac(way.sin() * 43758.5453)
        even = torch.frac(seed.abs() * torch.tensor([1.0, 511.37, 3371.91]).double())
        noise = torch.erfinv((even * 2 - 1) * 0.9999) * 2**0.5
        gradient = torch.nn.functional.normalize(gradient + 0.05 * noise, dim=1)
        return (distance.square() + 1e-6).sqrt(), gradient


SHAPES = {
    "sphere": Shape(_sphere),
    "torus": Shape(_torus),
    "box": Shape(_box),
    "cylinder": Shape(_cylinder),
    "plate": Shape(_plate),
    "cross": Shape(_cross),
}


def wrong_ends(name: str, junctions: Tensor, ends: Tensor, near: float) -> tuple[int, int]:
    """Count edges where sheets meet, and where they end, that lie farther than `near` from where they truly do."""
    if name == "cross":
        junctions = junctions[junctions[:, 1:].norm(dim=1) > near]
    rim = {"cylinder": (0.5, [2]), "plate": (0.6, [0, 1]), "cross": (0.6, [0, 1, 2])}
    if name in rim:
        half, axes = rim[name]
        ends = ends[half - ends[:, axes].abs().amax(1) > near]
    return len(junctions), len(ends)


def row(name: str, shape: Shape, noisy: bool, depth: int) -> str:
    """Mesh a shape, and say how well."""
    spent = 0.0

    def distance(points: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal spent
        begin = time.perf_counter()
        found = shape.noisy(points) if noisy else shape.exact(points)
        spent += time.perf_counter() - begin
        return found

    begin = time.perf_counter()
    found = mesh_unsigned(distance, depth)
    seconds = time.perf_counter() - begin - spent
    mesh = found.mesh
    off = shape.exact(surface_points(mesh, 200_000, torch.Generator().manual_seed(0)).positions)[0]
    worst = max(float(off.max()), float(shape.exact(mesh.vertices)[0].max()))
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].view(-1, 2).sort(1).values
    edges, count = edges.unique(dim=0, return_counts=True)
    middle = shape.local(mesh.vertices[edges].mean(1))
    junctions, ends = middle[count > 2], middle[count == 1]
    wrong = wrong_ends(name, junctions, ends, 1.5 * 2 / 2**depth)
    return (
        f"{name:<9} {'noisy' if noisy else 'exact'} {1e4 * float(off.mean()):9.3f} {1e3 * worst:7.2f} "
        f"{len(junctions):7} ({wrong[0]}) {len(ends):6} ({wrong[1]}) {len(mesh.faces):8,} {found.queries:10,} "
        f"{seconds:6.2f}"
    )


def main() -> None:
    """Print a row for each shape, exact and noisy."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--depth", type=int, default=7)
    args = parser.parse_args()
    print(
        "shape     field  acc 1e-4 worst 1e-3  meet (wrong)  end (wrong)  faces  queries  seconds"
    )
    for noisy in (False, True):
        for name, shape in SHAPES.items():
            print(row(name, shape, noisy, args.depth), flush=True)


if __name__ == "__main__":
    main()
