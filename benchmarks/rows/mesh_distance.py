"""Distances to a mesh, near it and anywhere in the cube, beside a k-d tree of its vertices."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import torch
from harness import Bench, Row
from torch import Generator, Tensor

from polyfield.datasets.builtin_mesh import builtin_mesh
from polyfield.datasets.mesh import Mesh, clean_mesh
from polyfield.datasets.mesh_distance import MeshDistance
from polyfield.datasets.mesh_file import read_mesh
from polyfield.datasets.surface_samples import surface_points

POINTS = 1 << 18
DATA = Path(os.environ.get("POLYFIELD_DATA", Path(__file__).parents[3] / "shared" / "data"))


def rows(bench: Bench) -> Iterator[Row]:
    """Points a second: distance, winding number, and distance with sign.

    Peer, in the column of torch: scipy's k-d tree of the vertices, which finds the nearest of these only and not the
    nearest point of a triangle. No floor is known: a point reads a few nodes and leaves that lie in caches or do not.
    """
    name, mesh = chosen_mesh()
    start = perf_counter()
    field = MeshDistance(mesh)
    built = perf_counter() - start
    generator = Generator().manual_seed(0)
    near = surface_points(mesh, POINTS, generator).positions
    near = near + 0.01 * torch.randn(near.shape, generator=generator)
    uniform = 2 * torch.rand(POINTS, 3, generator=generator) - 1
    tree = vertex_tree(mesh, bench.threads)
    for where, points in (("near", near), ("uniform", uniform)):
        case = f"{name}, {where}, tree in {1e3 * built:.0f} ms"
        for operation, run in (
            ("closest point", field.unsigned),
            ("winding number", field.winding),
            ("signed distance", field.signed),
        ):
            mine = bench.time(lambda run=run, points=points: run(points))
            peer = operation == "closest point" and tree is not None
            theirs = bench.time(lambda points=points: tree(points)) if peer else None
            yield Row(operation, case, POINTS / mine, None if theirs is None else POINTS / theirs)


def chosen_mesh() -> tuple[str, Mesh]:
    """The armadillo of 99,976 faces, or, where there is no data, the built-in scene's surface of about as many."""
    path = DATA / "meshes" / "armadillo.obj"
    name, mesh = (
        ("armadillo", read_mesh(path))
        if path.exists()
        else ("built-in", clean_mesh(*builtin_mesh(140)))
    )
    return f"{name}, {len(mesh.faces)} faces", mesh.placed()[0]


def vertex_tree(mesh: Mesh, threads: int) -> Callable[[Tensor], object] | None:
    """Nearest vertices by scipy, where it is installed."""
    if importlib.util.find_spec("scipy") is None:
        return None
    from scipy.spatial import cKDTree

    tree = cKDTree(mesh.vertices.numpy())
    return lambda points: tree.query(points.numpy(), workers=threads)
