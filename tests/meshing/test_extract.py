"""From a function to a mesh in the data's coordinates: closed forms of its shape, its report and its colours."""

import json
import math

import pytest
import torch
import trimesh
from torch import Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.errors import InputError
from polyfield.meshing.extract import Extracted, MeshReport, extract, vertex_normals
from polyfield.meshing.lattice import Lattice
from polyfield.meshing.surfaces import RaySource

RESOLUTION = 32


def ball(
    points: Tensor, middle: tuple[float, ...] = (0.0, 0.0, 0.0), radius: float = 0.7
) -> Tensor:
    return (points - torch.tensor(middle)).norm(dim=1) - radius


class Shape:
    """A signed distance in the cube of side 2, with the place as its colour."""

    below = True
    colored = True

    def __init__(self, function=ball, data_from_model: Tensor | None = None) -> None:
        self.function = function
        self.data_from_model = torch.eye(4).double() if data_from_model is None else data_from_model
        self.seen = list[tuple[Tensor, Tensor, float]]()

    @property
    def box(self) -> tuple[Tensor, Tensor]:
        return -torch.ones(3).double(), torch.ones(3).double()

    def level(self, rays: RaySource) -> float:
        return 0.0

    def values(self, points: Tensor) -> Tensor:
        return self.function(points)

    def wanted(self, lattice: Lattice) -> None:
        return None

    def colors(self, points: Tensor, normals: Tensor, reach: float) -> Tensor | None:
        self.seen.append((points, normals, reach))
        return points.clamp(0, 1) if self.colored else None


def placement(scale: float = 2.0, by: tuple[float, ...] = (10.0, -20.0, 5.0)) -> Tensor:
    """Turned, larger and moved."""
    turn = torch.tensor(trimesh.transformations.rotation_matrix(0.7, [1, 2, 3]))
    turn[:3, :3] *= scale
    turn[:3, 3] = torch.tensor(by)
    return turn


def report(found: Extracted) -> MeshReport:
    return MeshReport.of(found.mesh)


def flat(radius: float, resolution: int) -> float:
    """How far within a sphere the vertices, and chords between them, lie at most.

    Distances bend by h^2 / 8r along an edge of a cell, and circles by three times as much along a chord through it.
    """
    return 4 * (2 / resolution) ** 2 / (8 * radius)


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_a_ball_in_closed_form(scale: float) -> None:
    place = placement(scale)
    found = extract(Shape(data_from_model=place), RESOLUTION, 0.0)
    seen, radius = report(found), 0.7 * scale
    assert (seen.watertight, seen.components, seen.euler) == (True, 1, 2)
    assert (seen.boundary_edges, seen.nonmanifold_edges) == (0, 0)
    assert found.queries == (RESOLUTION + 1) ** 3
    # Inside by a share of the radius: twice as much of the area, three times of the volume; a bit of rounding.
    share = flat(0.7, RESOLUTION) / 0.7
    assert 1 - 2.5 * share < seen.area / (4 * math.pi * radius**2) < 1 + 1e-5
    assert seen.volume is not None
    assert 1 - 3.5 * share < seen.volume / (4 / 3 * math.pi * radius**3) < 1 + 1e-5
    away = (found.mesh.vertices - place[:3, 3]).norm(dim=1) / scale - 0.7
    # Float32 values of about a cell's side, and places in units of the lattice.
    assert -flat(0.7, RESOLUTION) < float(away.min()) <= float(away.max()) < 1e-5
    # Vertices lie on the axes of the cube, or a cell beside them.
    box = torch.stack([torch.tensor(seen.low), torch.tensor(seen.high)]).double() - place[:3, 3]
    assert float((box.abs() - radius).abs().max()) < 2 * flat(0.7, RESOLUTION) * scale


@pytest.mark.parametrize("level", [-0.2, 0.0, 0.15])
def test_a_level_of_a_distance_is_another_ball(level: float) -> None:
    found = extract(Shape(), RESOLUTION, level)
    away = found.mesh.vertices.norm(dim=1) - (0.7 + level)
    assert -flat(0.5, RESOLUTION) < float(away.min()) <= float(away.max()) < 1e-5
    assert found.level == level


def test_a_finer_lattice_is_four_times_as_near() -> None:
    truth = 4 / 3 * math.pi * 0.7**3
    errors = []
    for resolution in (12, 24, 48):
        volume = report(extract(Shape(), resolution, 0.0)).volume
        assert volume is not None
        errors.append(1 - volume / truth)
    # Quadratic, and where lattice and ball meet by chance changes little of it.
    assert 3 < errors[0] / errors[1] < 5
    assert 3 < errors[1] / errors[2] < 5


def test_a_torus_has_a_handle() -> None:
    def torus(points: Tensor) -> Tensor:
        ring = torch.hypot(points[:, 0], points[:, 1]) - 0.6
        return torch.hypot(ring, points[:, 2]) - 0.25

    seen = report(extract(Shape(torus), RESOLUTION, 0.0))
    assert (seen.watertight, seen.components, seen.euler) == (True, 1, 0)
    # As of balls, with the smaller radius.
    assert seen.volume == pytest.approx(
        2 * math.pi**2 * 0.6 * 0.25**2, rel=4 * flat(0.25, 32) / 0.25
    )


def two_balls(points: Tensor) -> Tensor:
    return torch.minimum(ball(points, (-0.35, 0.0, 0.0), 0.55), ball(points, (0.7, 0.6, 0.6), 0.15))


@pytest.mark.parametrize(("least", "left"), [(0.0, 2), (0.01, 2), (0.2, 1), (1.0, 1)])
def test_small_pieces_go_and_the_rest_is_as_it_was(least: float, left: int) -> None:
    shape = Shape(two_balls)
    found = extract(shape, RESOLUTION, 0.0, least_piece=least)
    seen = report(found)
    assert (seen.components, seen.euler, seen.watertight) == (left, 2 * left, True)
    assert seen.vertices == len(found.mesh.faces.unique())
    every = extract(Shape(two_balls), RESOLUTION, 0.0).mesh
    stay = every.corners if left == 2 else every.corners[(every.corners[:, :, 0] < 0.4).all(1)]
    assert torch.equal(found.mesh.corners, stay)
    assert found.colors is not None
    assert len(found.colors) == seen.vertices


def test_a_crop_is_told_in_the_data_and_meshed_finer() -> None:
    place = torch.eye(4).double()
    place[:3, :3] *= 4.0
    place[:3, 3] = torch.tensor([100.0, 0.0, 0.0])
    low, high = torch.tensor([100.0, -4.0, -4.0]).double(), torch.tensor([104.0, 4.0, 4.0]).double()
    shape = Shape(data_from_model=place)
    found = extract(shape, RESOLUTION, 0.0, crop=(low, high))
    seen = report(found)
    assert seen.low[0] == pytest.approx(100.0, abs=1e-9)  # the half ball is open where it is cut
    assert seen.boundary_edges > 20
    assert (seen.volume, seen.watertight, seen.euler) == (None, False, 1)
    assert seen.area == pytest.approx(2 * math.pi * 2.8**2, rel=2.5 * flat(0.7, 32) / 0.7)
    assert shape.seen[0][2] == pytest.approx(2 / RESOLUTION)  # of the model's own units


def test_colours_are_asked_on_the_surface_with_normals_outwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("polyfield.meshing.extract._COLORED", 300)
    shape = Shape(data_from_model=placement())
    found = extract(shape, 24, 0.0)
    points, normals = (torch.cat([part[k] for part in shape.seen]) for k in (0, 1))
    assert max(len(part[0]) for part in shape.seen) == 300
    assert len(points) == len(found.mesh.vertices)
    assert (points.dtype, normals.dtype) == (torch.float32, torch.float32)
    assert {part[2] for part in shape.seen} == {2 / 24}
    # Faces are up to a cell wide: 1/12 of 0.7, so normals are off by a tenth at most.
    assert float((normals * points).sum(1).min()) > 0.995 * 0.7 - flat(0.7, 24)
    assert float((normals.norm(dim=1) - 1).abs().max()) < 1e-6
    assert found.colors is not None
    assert torch.equal(found.colors, points.clamp(0, 1))
    shape.colored = False
    assert extract(shape, 24, 0.0).colors is None


def test_no_surface_is_said_with_the_level_and_the_box() -> None:
    with pytest.raises(InputError, match=r"no surface at the level 9 .*\(-1, -1, -1\) to \(1, 1, "):
        extract(Shape(), 8, 9.0)


def test_normals_of_vertices_are_those_of_a_sphere_and_turn_with_it() -> None:
    shape = trimesh.creation.icosphere(3)
    vertices, faces = torch.tensor(shape.vertices), torch.tensor(shape.faces)
    normals = vertex_normals(vertices, faces)
    # Faces around a vertex are turned by half of an edge, 0.08, this way and that, and are nearly alike.
    assert float((normals - vertices).norm(dim=1).max()) < 0.02
    # Other edges of each face are multiplied: roundings of float64.
    assert float((vertex_normals(vertices, faces.flip(1)) + normals).abs().max()) < 1e-13
    # Small or far away it is the same, but for rounding.
    for scale, by in ((1e-60, 0.0), (1e60, 0.0), (1.0, 1e6)):
        found = vertex_normals(scale * vertices + by, faces)
        assert float((found - normals).abs().max()) < 1e-8
    lonely = vertex_normals(torch.cat([vertices, torch.ones(1, 3).double()]), faces)
    assert torch.equal(lonely[:-1], normals)
    assert lonely[-1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("by", [0.0, 1e3, 1e6])
def test_a_report_hangs_on_no_place(by: float) -> None:
    shape = trimesh.creation.icosphere(3)
    vertices, faces = torch.tensor(shape.vertices), torch.tensor(shape.faces)
    near, far = MeshReport.of(Mesh(vertices, faces)), MeshReport.of(Mesh(vertices + by, faces))
    assert near.volume == pytest.approx(shape.volume, rel=1e-12)
    # At 1e6 a coordinate is rounded by 1e-10.
    assert far.volume == pytest.approx(near.volume, rel=1e-8)
    assert far.area == pytest.approx(near.area, rel=1e-8)
    assert (far.vertices, far.faces, far.euler) == (near.vertices, near.faces, near.euler)


def test_a_report_of_what_is_not_closed_and_not_simple() -> None:
    # Three triangles at one edge, and one alone.
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, -1, 0]]).double()
    vertices = torch.cat([vertices, vertices[:3] + 5])
    faces = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 1, 4], [5, 6, 7]])
    seen = MeshReport.of(Mesh(vertices, faces))
    assert (seen.vertices, seen.faces, seen.components) == (8, 4, 2)
    assert (seen.boundary_edges, seen.nonmanifold_edges) == (9, 1)
    assert (seen.watertight, seen.volume, seen.euler) == (False, None, 8 - 10 + 4)
    assert seen.area == 2.0
    assert json.loads(json.dumps(seen.json()))["high"] == [6.0, 6.0, 5.0]
