"""Meshes: what they refuse, what is mended, what follows from corners and faces."""

import math

import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyfield.datasets.mesh import Mesh, clean_mesh
from polyfield.errors import DataError, ShapeError

SQUARE = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]], dtype=torch.float64)


def made(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(torch.tensor(shape.vertices), torch.tensor(shape.faces))


def faces(*rows: tuple[int, int, int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64).view(-1, 3)


def volume(mesh: Mesh) -> float:
    return float(torch.linalg.det(mesh.corners).sum() / 6)


@pytest.mark.parametrize(
    ("vertices", "chosen", "message"),
    [
        (SQUARE, faces(), "must have faces, but this one has 4 vertices and none; is it a point"),
        (SQUARE, faces((0, 1, 4)), "A face names vertex 4, but the mesh has vertices 0 to 3"),
        (SQUARE, faces((0, -1, 2)), "A face names vertex -1"),
        (SQUARE * math.nan, faces((0, 1, 2)), "4 of 4 vertices of the mesh are not finite"),
        (SQUARE.clone().index_fill_(0, torch.tensor(3), math.inf), faces((0, 1, 2)), "1 of 4 vert"),
        (SQUARE * 1e160, faces((0, 1, 2)), "coordinates beyond 1e+75, too large"),
        (
            SQUARE,
            faces((0, 1, 1), (2, 2, 2)),
            "a triangle with area, but all of its faces are flat",
        ),
        (SQUARE[:, [0, 0, 0]], faces((0, 1, 2)), "all of its faces are flat"),
    ],
)
@pytest.mark.parametrize("make", [Mesh, clean_mesh])
def test_what_is_no_mesh_is_refused_in_a_sentence(make, vertices, chosen, message):
    with pytest.raises(DataError) as raised:
        make(vertices, chosen)
    assert message in str(raised.value)


@pytest.mark.parametrize("size", [1e-70, 1.0, 1e74])
def test_meshes_of_any_size_are_placed(size):
    mesh, place = clean_mesh(SQUARE * size, faces((0, 1, 2))).placed_within()
    assert place.scale * size == pytest.approx(0.99 / math.sqrt(0.5))
    assert float(mesh.areas.sum()) == pytest.approx(0.99**2)


def test_wrong_kinds_are_refused():
    with pytest.raises(ShapeError, match=r"vertices must be \[.., 3\] of torch.float64, but is"):
        Mesh(SQUARE.float(), faces((0, 1, 2)))
    with pytest.raises(
        ShapeError, match=r"faces must be \[.., 3\] of torch.int64, but is \[1, 4\]"
    ):
        Mesh(SQUARE, torch.zeros(1, 4, dtype=torch.int64))


def test_one_triangle():
    mesh = Mesh(SQUARE, faces((0, 1, 2)))
    assert mesh.areas.tolist() == [0.5]
    assert mesh.normals.tolist() == [[0, 0, 1]]
    assert (mesh.edges.boundary, mesh.edges.watertight, mesh.edges.closed) == (3, False, False)


@pytest.mark.parametrize(
    "shape",
    [trimesh.creation.box(), trimesh.creation.icosphere(3), trimesh.creation.torus(1, 0.3)],
    ids=["box", "sphere", "torus"],
)
def test_laws_of_closed_surfaces(shape):
    mesh = made(shape)
    assert mesh.edges.watertight
    assert mesh.edges.closed
    assert (mesh.edges.boundary, mesh.edges.nonmanifold) == (0, 0)
    assert volume(mesh) > 0
    # Gauss: the vector areas of a closed surface cancel.
    flux = (mesh.areas[:, None] * mesh.normals).sum(0)
    assert flux.abs().max() < 1e-12 * mesh.areas.sum()
    # 3 F = 2 E, every edge counted from both sides; Euler's number then follows from V and F.
    assert len(mesh.vertices) - len(mesh.faces) / 2 == shape.euler_number


def test_edges_of_what_is_not_watertight():
    box = made(trimesh.creation.box())
    opened = Mesh(box.vertices, box.faces[1:])
    assert (opened.edges.boundary, opened.edges.closed) == (3, False)
    turned = Mesh(box.vertices, torch.cat([box.faces[:1].flip(1), box.faces[1:]]))
    assert (turned.edges.boundary, turned.edges.watertight) == (0, False)
    assert not turned.edges.closed
    # Two boxes that share an edge: closed, although four faces meet there.
    other = torch.unique(torch.cat([box.vertices, box.vertices + torch.tensor([1.0, 1, 0])]), dim=0)
    both = clean_mesh(
        torch.cat([box.vertices, box.vertices + torch.tensor([1.0, 1, 0])]),
        torch.cat([box.faces, box.faces + 8]),
    )
    assert len(both.vertices) == len(other) == 14
    assert (both.edges.nonmanifold, both.edges.watertight, both.edges.closed) == (1, False, True)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40))
def test_cleaning_undoes_what_spoils_a_mesh(seed, extra):
    shape = trimesh.creation.icosphere(1)
    mesh = made(shape)
    generator = torch.Generator().manual_seed(seed)
    # A corner of its own for each face, with both signs of zero; then repeated, turned and flat faces.
    soup = mesh.corners.reshape(-1, 3) * torch.where(
        torch.rand(240, 1, generator=generator) < 0.5, 1.0, 1.0
    )
    soup = torch.where((soup == 0) & (torch.rand(240, 3, generator=generator) < 0.5), -0.0, soup)
    split = torch.arange(240).view(-1, 3)
    pick = torch.randint(80, (extra,), generator=generator)
    again = split[pick].roll(int(torch.randint(3, (), generator=generator)), 1)
    flat = split[pick][:, [0, 1, 0]]
    cleaned = clean_mesh(soup, torch.cat([split, again, flat]))
    assert len(cleaned.vertices) == len(mesh.vertices)
    assert torch.equal(cleaned.corners, mesh.corners)
    assert cleaned.edges.watertight
    of = 80 + 2 * extra
    were = (
        "1 of {} faces {}and was dropped."
        if extra == 1
        else f"{extra} of {{}} faces {{}}and were dropped."
    )
    twice = "was there twice " if extra == 1 else "were there twice "
    assert cleaned.notes == (were.format(of, "had no area "), were.format(of, twice))
    assert clean_mesh(cleaned.vertices, cleaned.faces).notes == ()


def test_both_sides_of_a_sheet_are_kept():
    mesh = clean_mesh(SQUARE, faces((0, 1, 2), (0, 2, 1)))
    assert len(mesh.faces) == 2
    assert mesh.edges.closed


def test_vertices_are_merged_only_where_they_are_equal():
    near = torch.nextafter(SQUARE, SQUARE + 1)
    mesh = clean_mesh(torch.cat([SQUARE, near]), faces((0, 1, 2), (4, 6, 7)))
    assert len(mesh.vertices) == 6


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_placing(offset):
    shape = trimesh.creation.box((2, 5, 3))
    vertices = torch.cat([torch.tensor(shape.vertices) + offset, torch.full((1, 3), 1e9)])
    mesh = Mesh(vertices.double(), torch.tensor(shape.faces))  # its last vertex belongs to no face
    placed, place = mesh.placed()
    low, high = placed.box
    assert torch.allclose(low, -high, atol=1e-9)
    assert math.isclose(float((high - low).max()), 1.8, rel_tol=1e-12)
    assert torch.allclose(place.back(placed.vertices), mesh.vertices, rtol=1e-12)
    assert math.isclose(place.scale, 1.8 / 5)
    within, _ = mesh.placed_within()
    assert math.isclose(float(within.vertices[:8].norm(dim=1).max()), 0.99, rel_tol=1e-9)


def test_tiny_faces_have_normals():
    mesh = Mesh(SQUARE * 1e-100, faces((0, 1, 2)))
    assert mesh.normals.tolist() == [[0, 0, 1]]
