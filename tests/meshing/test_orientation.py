"""Turning faces: neighbours agree, closed pieces face outwards, and strips with one side end."""

import math

import pytest
import torch
from torch import Generator, Tensor

from polyfield import native
from polyfield.datasets.mesh import Mesh
from polyfield.meshing.marching_cubes import marching_cubes
from polyfield.meshing.orientation import orientation_reference, oriented


def ball(side: int = 12) -> tuple[Tensor, Tensor]:
    line = torch.linspace(-1, 1, side)
    radius = torch.stack(torch.meshgrid(line, line, line, indexing="ij")).norm(dim=0)
    vertices, faces = marching_cubes(radius, 0.7, below=True)
    return vertices.double(), faces


def strip(length: int, twists: int) -> tuple[Tensor, Tensor]:
    """A band of triangles, closed to a ring after so many half turns."""
    angle = torch.arange(length).double() * (2 * math.pi / length)
    half = 0.5 * twists * angle
    rims = []
    for side in (-0.2, 0.2):
        radius = 1 + side * half.cos()
        rims.append(torch.stack([radius * angle.cos(), radius * angle.sin(), side * half.sin()], 1))
    low = torch.arange(length)
    high = low + length
    after, above = (low + 1) % length, (low + 1) % length + length
    if twists % 2:
        after[-1], above[-1] = above[-1].clone(), after[-1].clone()
    faces = torch.cat([torch.stack([low, after, high], 1), torch.stack([high, after, above], 1)])
    return torch.cat(rims), faces


def mixed(faces: Tensor, seed: int) -> Tensor:
    """Some turned round, in another order."""
    generator = Generator().manual_seed(seed)
    turn = torch.rand(len(faces), generator=generator) < 0.5
    faces = torch.where(turn[:, None], faces.flip(1), faces)
    return faces[torch.randperm(len(faces), generator=generator)]


def disagreements(faces: Tensor) -> int:
    """Edges of two faces that run along them the same way."""
    runs = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    rising = (runs[:, 0] < runs[:, 1]).long()
    _, edge, count = runs.sort(1).values.unique(dim=0, return_inverse=True, return_counts=True)
    ways = torch.zeros(len(count), dtype=torch.int64).index_add_(0, edge, rising)
    return int(((count == 2) & (ways != 1)).sum())


@pytest.mark.parametrize("seed", range(3))
def test_closed_pieces_face_outwards(seed: int) -> None:
    """Two balls, one of them far away: each is as marching cubes made it."""
    vertices, faces = ball()
    both = torch.cat([vertices, vertices + 100.0])
    found = oriented(mixed(torch.cat([faces, faces + len(vertices)]), seed), both)
    mesh = Mesh(both, found)
    assert mesh.edges.watertight
    a, b, c = Mesh(both, found).corners.unbind(1)
    volume = (a * torch.linalg.cross(b, c)).sum(1) / 6
    first = found[:, 0] < len(vertices)
    for part in (volume[first], volume[~first]):
        # The flat triangles of a coarse lattice cut off a little.
        radius = 0.7 * 11 / 2
        assert 0.9 < float(part.sum()) / (4 / 3 * math.pi * radius**3) < 1.0


@pytest.mark.parametrize(("twists", "left"), [(0, 0), (1, 1), (2, 0), (3, 1)])
def test_rings_agree_but_for_a_seam_where_they_have_one_side(twists: int, left: int) -> None:
    vertices, faces = strip(30, twists)
    for seed in range(3):
        found = oriented(mixed(faces, seed), vertices)
        assert disagreements(found) == left
        assert torch.equal(found.sort(1).values.unique(dim=0), faces.sort(1).values.unique(dim=0))


def test_edges_of_three_faces_are_passed_by() -> None:
    """A fin on a ball: the ball is as without it."""
    vertices, faces = ball()
    fin = torch.tensor([[int(faces[0, 0]), int(faces[0, 1]), len(vertices)]])
    vertices = torch.cat([vertices, torch.full((1, 3), 50.0, dtype=torch.float64)])
    found = oriented(torch.cat([mixed(faces, 0), fin]), vertices)
    assert disagreements(found) == 0
    edges = Mesh(vertices, found).edges
    assert (edges.nonmanifold, edges.boundary) == (1, 2)


def test_turning_twice_changes_nothing() -> None:
    vertices, faces = ball()
    once = oriented(mixed(faces, 4), vertices)
    assert torch.equal(oriented(once, vertices), once)


def test_no_faces() -> None:
    none = torch.zeros(0, 3, dtype=torch.int64)
    assert oriented(none, torch.zeros(4, 3, dtype=torch.float64)).shape == (0, 3)


@pytest.mark.skipif(not native.available(), reason="compares native with the reference")
def test_native_is_the_reference() -> None:
    """The same pieces, and within each the same faces turned: both leave its lowest face."""
    generator = Generator().manual_seed(0)
    heaps = [torch.randint(40, (60, 3), generator=generator) for _ in range(5)]
    heaps = [heap[(heap != heap.roll(1, 1)).all(1)] for heap in heaps]
    for faces in (*heaps, mixed(ball()[1], 1), mixed(strip(20, 2)[1], 2)):
        turned = torch.empty(len(faces), dtype=torch.uint8)
        piece = torch.empty(len(faces), dtype=torch.int64)
        faces = faces.contiguous()
        count = native.core().orient_faces(
            faces.data_ptr(), len(faces), turned.data_ptr(), piece.data_ptr()
        )
        theirs, their_piece, their_count = orientation_reference(faces)
        assert count == their_count
        assert torch.equal(piece, their_piece)
        if disagreements(faces) == 0 or faces is not heaps[0]:
            seams = torch.where(theirs.bool()[:, None], faces.flip(1), faces)
            if disagreements(seams) == 0:
                assert torch.equal(turned, theirs)
