"""Rays that look for the first triangle of a mesh, beside plain torch, which looks at every triangle."""

from collections.abc import Iterator

import torch
from harness import Bench, Row
from rows.mesh_distance import chosen_mesh
from torch import Generator, Tensor

from polyfield.datasets.mesh_rays import MeshRays, first_hits_reference

SIDE, FEW = 512, 256


def rows(bench: Bench) -> Iterator[Row]:
    """Rays a second, through the pixels of a picture and from anywhere to anywhere.

    No floor is known: a ray reads a few nodes and leaves that lie in caches or do not.
    """
    name, mesh = chosen_mesh()
    caster = MeshRays(mesh)
    generator = Generator().manual_seed(0)
    few = torch.randperm(SIDE * SIDE, generator=generator)[:FEW]
    for where, (origins, directions) in (
        ("a picture", picture()),
        ("anywhere", anywhere(generator)),
    ):
        some = origins[few].double(), directions[few].double()
        mine = bench.time(lambda o=origins, d=directions: caster.first_hits(o, d))
        theirs = bench.time(lambda some=some: first_hits_reference(mesh, *some))
        yield Row("first hits", f"{name}, {where}", len(origins) / mine, FEW / theirs)


def picture() -> tuple[Tensor, Tensor]:
    """Rays through the pixels of a picture, row by row, from the front."""
    across = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
    x, y = torch.meshgrid(across, across, indexing="xy")
    directions = torch.stack([x, -y, -torch.ones_like(x)], -1).view(-1, 3)
    origins = torch.tensor([0.0, 0.0, 2.2]).expand(len(directions), 3).contiguous()
    return origins, torch.nn.functional.normalize(directions, dim=1)


def anywhere(generator: Generator) -> tuple[Tensor, Tensor]:
    """Rays between points of the cube, in no order."""
    ends = 2 * torch.rand(2, SIDE * SIDE, 3, generator=generator) - 1
    return ends[0].contiguous(), torch.nn.functional.normalize(ends[1] - ends[0], dim=1)
