"""Distances to meshes and winding numbers: closed forms, laws, and the tree against all faces one by one."""

import math

import pytest
import torch
import trimesh
from torch import Generator, Tensor

from polyfield.datasets.mesh import Mesh, clean_mesh
from polyfield.datasets.mesh_distance import MeshDistance, closest_reference, winding_reference
from polyfield.datasets.mesh_file import read_mesh
from polyfield.datasets.surface_samples import surface_points
from polyfield.errors import ShapeError


def made(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(torch.tensor(shape.vertices), torch.tensor(shape.faces))


def soup(count: int, seed: int = 0, thin: float = 1.0) -> Mesh:
    """Triangles anywhere in a cube of side 2, their third corner drawn towards the first edge by `thin`."""
    corners = 2 * torch.rand(count, 3, 3, generator=Generator().manual_seed(seed)).double() - 1
    share = torch.rand(count, 1, generator=Generator().manual_seed(seed + 1)).double()
    foot = corners[:, 0] + share * (corners[:, 1] - corners[:, 0])
    corners[:, 2] = foot + thin * (corners[:, 2] - foot)
    return Mesh(corners.reshape(-1, 3), torch.arange(3 * count).view(-1, 3))


def points_about(count: int, seed: int = 7, reach: float = 1.5) -> Tensor:
    return reach * (2 * torch.rand(count, 3, generator=Generator().manual_seed(seed)) - 1)


def box_distance(points: Tensor, half: float) -> Tensor:
    beyond = points.abs() - half
    return beyond.clamp(min=0).norm(dim=1) + beyond.amax(1).clamp(max=0)


BOX, SPHERE = made(trimesh.creation.box((1.0, 1, 1))), made(trimesh.creation.icosphere(4))
TORUS = made(trimesh.creation.torus(1.0, 0.4))


# Results are float32 of a distance computed in float64: half a unit in the last place, 6e-8 of it. Another face than
# the nearest may be chosen where they differ by the rounding of float32 coordinates of size 1.5: a few times 1e-7.
def tolerance(truth: Tensor) -> Tensor:
    return 6e-7 + 1e-6 * truth


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_box_in_closed_form(count, dtype):
    points = points_about(count).to(dtype)
    truth = box_distance(points.double(), 0.5)
    distance = MeshDistance(BOX).signed(points)
    assert distance.dtype == torch.float32
    assert distance.shape == (count,)
    assert ((distance - truth).abs() <= tolerance(truth.abs())).all()
    if count == 1000:
        assert (truth < 0).any()
        assert (distance.sign() == truth.sign()).all()


def test_sphere_in_closed_form():
    points = points_about(5000)
    truth = points.double().norm(dim=1) - 1
    # Faces lie inside the sphere: their middle, the deepest, by the sagitta of the longest edge.
    edges = SPHERE.corners - SPHERE.corners.roll(1, 1)
    deep = 1 - math.sqrt(1 - float(edges.norm(dim=2).max()) ** 2 / 3)
    distance = MeshDistance(SPHERE).signed(points)
    assert (distance >= truth - 1e-6).all()
    assert (distance <= truth + deep + 1e-6).all()


@pytest.mark.parametrize("faces", [1, 2, 15, 16, 17, 257, 1000, 5000])
def test_agrees_with_the_reference_on_soups(faces):
    mesh = soup(faces)
    for reach, count in ((1.5, 300), (100.0, 50)):
        points = points_about(count, seed=faces, reach=reach)
        found = MeshDistance(mesh).unsigned(points)
        distance, _, _ = closest_reference(mesh, points.double())
        assert ((found.distance - distance).abs() <= tolerance(distance)).all()
        assert (
            found.distance >= distance * (1 - 1e-7)
        ).all()  # a distance to a real face is never too small
        check_consistent(mesh, points, found.distance, found.face, found.point)


def check_consistent(mesh, points, distance, face, point):
    """The closest point lies as far away as is said, and on the face that is named."""
    away = (points.double() - point).norm(dim=1)
    assert ((away - distance).abs() <= 2e-7 * (1 + points.double().norm(dim=1))).all()
    # To the one face: the reference, a mesh of one triangle at a time.
    for n in range(0, len(points), 17):
        alone = Mesh(mesh.corners[face[n]], torch.tensor([[0, 1, 2]]))
        there, _, _ = closest_reference(alone, points[n : n + 1].double())
        assert abs(float(there) - float(distance[n])) <= float(tolerance(there))


@pytest.mark.parametrize("thin", [1e-2, 1e-4, 1e-6, 1e-9])
def test_slivers_agree_with_the_reference(thin):
    mesh = soup(500, thin=thin)
    on = surface_points(mesh, 200, Generator().manual_seed(1)).positions
    for points in (points_about(200), on, on + 1e-3 * points_about(200)):
        found = MeshDistance(mesh).unsigned(points)
        distance, _, _ = closest_reference(mesh, points.double())
        assert ((found.distance - distance).abs() <= tolerance(distance)).all()


@pytest.mark.parametrize("scale", [1e-100, 1e-20, 1.0, 1e20])
def test_size_and_place_agree_with_the_reference(scale):
    points = points_about(300).double()
    plain = MeshDistance(TORUS).unsigned(points)
    other = Mesh((TORUS.vertices + 3) * scale, TORUS.faces)
    moved = MeshDistance(other).unsigned((points + 3) * scale)
    # Coordinates of 3 lose a bit or two of double precision; then as tolerance().
    expected = plain.distance.double() * scale
    assert torch.allclose(moved.distance.double(), expected, rtol=2e-6, atol=6e-7 * scale + 1e-45)
    assert (
        torch.equal(
            MeshDistance(other).signed((points + 3) * scale) < 0,
            MeshDistance(TORUS).signed(points) < 0,
        )
        or scale < 1e-45
    )  # below, float32 results are 0


def test_order_and_threads_change_no_bit():
    points = torch.cat([points_about(3000), surface_points(TORUS, 3000, Generator()).positions])
    shuffled = torch.randperm(len(points), generator=Generator().manual_seed(3))
    field = MeshDistance(TORUS)
    torch.set_num_threads(1)
    first, winding = field.unsigned(points), field.winding(points)
    torch.set_num_threads(2)
    again, mixed = field.unsigned(points), field.unsigned(points[shuffled])
    assert torch.equal(winding, field.winding(points))
    assert torch.equal(winding[shuffled], field.winding(points[shuffled]))
    for a, b, c in zip(first, again, mixed, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a[shuffled], c)
    # The distances of single points are those of the crowd.
    for n in range(0, 6000, 997):
        assert torch.equal(field.unsigned(points[n : n + 1]).distance, first.distance[n : n + 1])


def test_more_points_than_a_batch(monkeypatch):
    points = points_about(1000)
    whole = MeshDistance(TORUS).unsigned(points), MeshDistance(TORUS).signed(points)
    monkeypatch.setattr("polyfield.datasets.mesh_distance._BATCH", 300)
    parts = MeshDistance(TORUS).unsigned(points), MeshDistance(TORUS).signed(points)
    assert all(torch.equal(a, b) for a, b in zip(whole[0], parts[0], strict=True))
    assert torch.equal(whole[1], parts[1])


def test_points_that_are_not_finite_agree_with_the_reference():
    points = points_about(600)
    points[3, 1], points[100, 0], points[599, 2] = math.nan, math.inf, -math.inf
    lost = ~points.isfinite().all(1)
    field = MeshDistance(TORUS)
    found, reference = field.unsigned(points), closest_reference(TORUS, points.double())
    assert torch.equal(found.distance.isnan(), lost)
    assert torch.equal(reference[0].isnan(), lost)
    assert (found.face[lost] == -1).all()
    assert (reference[1][lost] == -1).all()
    assert found.point[lost].isnan().all()
    assert torch.equal(field.winding(points).isnan(), lost)
    assert torch.equal(field.signed(points).isnan(), lost)
    assert ((found.distance - reference[0]).abs() <= tolerance(reference[0]))[~lost].all()


def test_points_beyond_all_measure():
    points = torch.tensor([[1e30, 0, 0], [0, -1e38, 0]])
    found = MeshDistance(BOX).signed(points)
    assert torch.allclose(found, torch.tensor([1e30, 1e38]), rtol=1e-6)
    assert MeshDistance(BOX).winding(points).abs().max() < 1e-20
    huge = MeshDistance(BOX).unsigned(torch.tensor([[1e300, 0, 0]], dtype=torch.float64))
    assert huge.distance.tolist() == [math.inf]


def test_a_point_beyond_all_measure_shares_its_side_with_no_other():
    points = torch.tensor([[-3e38, -3e38, -3e38], [0.1, 0.1, 0.1], [0.05, 0.1, 0.1]])
    assert (MeshDistance(SPHERE).signed(points)[1:] < 0).all()


@pytest.mark.parametrize("far", [-1e300, -1e20, -1e17, -1e8, 1e17, 1e300])
def test_a_point_far_away_does_not_hide_the_mesh_from_the_next(far):
    """A search begins where the one before it ended, which from far away is nowhere: it found no face at all."""
    field, near = MeshDistance(SPHERE), torch.full((3,), 0.1, dtype=torch.float64)
    alone = field.unsigned(near[None])
    for axis in range(3):
        points = near.repeat(2, 1)
        points[0, axis] = far
        found = field.unsigned(points)
        assert found.face[1] == alone.face[0]
        assert found.distance[1] == alone.distance[0]


@pytest.mark.parametrize(
    "mesh", [BOX, SPHERE, TORUS, soup(300)], ids=["box", "sphere", "torus", "soup"]
)
def test_winding_agrees_with_the_reference(mesh):
    points = points_about(500)
    winding, truth = MeshDistance(mesh).winding(points), winding_reference(mesh, points.double())
    # A dipole stands for triangles that are half as large as it is far: what the first order leaves out is about a
    # tenth of what they contribute, and most of it cancels on a closed surface.
    error = (winding - truth).abs()
    assert error.max() < 0.1
    assert error.mean() < 0.02


@pytest.mark.parametrize("mesh", [BOX, SPHERE, TORUS], ids=["box", "sphere", "torus"])
def test_winding_of_closed_surfaces_is_whole(mesh):
    points = points_about(500).double()
    reference = winding_reference(mesh, points)
    assert (reference - reference.round()).abs().max() < 1e-9
    assert set(reference.round().tolist()) == {0.0, 1.0}
    assert torch.equal(MeshDistance(mesh).winding(points).round(), reference.round().float())


def test_a_leaf_is_exact():
    # Points so near to all of them that no triangle is a dipole.
    mesh = soup(4)
    points = points_about(200, reach=0.5)
    error = MeshDistance(mesh).winding(points) - winding_reference(mesh, points.double())
    # Near the plane of a triangle the sign of a float32 determinant is open, elsewhere 2e-7 an angle.
    assert error.abs().quantile(0.98) < 5e-6


def test_sides_of_several_bodies_agree_with_the_law():
    """Overlap, cavity and a body turned inside out."""
    inner = Mesh(0.5 * BOX.vertices, BOX.faces)
    points = points_about(2000)
    out, within = box_distance(points, 0.5), box_distance(points, 0.25)

    def sides(second: Tensor) -> Tensor:
        both = Mesh(torch.cat([BOX.vertices, inner.vertices]), torch.cat([BOX.faces, second + 8]))
        return MeshDistance(both).signed(points) < 0

    assert torch.equal(sides(inner.faces), out < 0)  # inside both: twice
    assert torch.equal(sides(inner.faces.flip(1)), (out < 0) & (within > 0))  # a cavity
    turned = Mesh(BOX.vertices, BOX.faces.flip(1))
    assert torch.equal(MeshDistance(turned).signed(points) < 0, out < 0)
    assert (MeshDistance(turned).winding(points).round() == -(out < 0).float()).all()


def test_open_meshes_have_sides_where_they_surround():
    opened = Mesh(SPHERE.vertices, SPHERE.faces[50:])  # 1 % of it is missing
    points = points_about(2000)
    radius = points.norm(dim=1)
    distance = MeshDistance(opened).signed(points)
    assert (distance[radius < 0.6] < 0).all()
    assert (distance[radius > 1.3] > 0).all()


def test_one_triangle_surrounds_nothing():
    triangle = Mesh(torch.eye(3).double(), torch.tensor([[0, 1, 2]]))
    points = points_about(1000)
    field = MeshDistance(triangle)
    assert torch.equal(field.signed(points), field.unsigned(points).distance)
    assert (field.winding(points).abs() <= 0.5).all()


def test_repeated_faces_change_no_distance():
    double = Mesh(TORUS.vertices, torch.cat([TORUS.faces, TORUS.faces[:500]]))
    points = points_about(500)
    assert torch.equal(
        MeshDistance(double).unsigned(points).distance,
        MeshDistance(TORUS).unsigned(points).distance,
    )
    assert torch.equal(
        clean_mesh(double.vertices, double.faces).faces,
        clean_mesh(TORUS.vertices, TORUS.faces).faces,
    )


def test_shared_sides_are_those_of_each_point():
    near = surface_points(TORUS, 5000, Generator().manual_seed(2)).positions
    points = torch.cat([points_about(5000), near + 0.02 * points_about(5000)])
    field = MeshDistance(TORUS)
    assert torch.equal(field.signed(points) < 0, field.winding(points) > 0.5)


def test_messages():
    field = MeshDistance(BOX)
    for call in (field.unsigned, field.winding, field.signed):
        with pytest.raises(ShapeError, match=r"points must be \[N, 3\], but are \[3\]"):
            call(torch.zeros(3))
        with pytest.raises(
            ShapeError, match=r"must be float32 or float64 on the CPU, but are torch.int64"
        ):
            call(torch.zeros(2, 3, dtype=torch.int64))


@pytest.mark.parametrize(
    "name", ["armadillo.obj", "truck.obj", "chair_0893.off", "tshirt.obj", "fertility.off"]
)
def test_real_meshes_agree_with_the_reference(data_dir, name):
    mesh, _ = read_mesh(data_dir / "meshes" / name).placed()
    count = 8 if len(mesh.faces) > 50_000 else 40
    near = surface_points(mesh, count, Generator().manual_seed(0)).positions
    points = torch.cat([near + 0.01 * points_about(count), points_about(count, reach=1.0)])
    field = MeshDistance(mesh)
    distance, _, _ = closest_reference(mesh, points.double())
    winding = winding_reference(mesh, points.double())
    assert ((field.unsigned(points).distance - distance).abs() <= tolerance(distance)).all()
    assert (field.winding(points) - winding).abs().max() < 0.1
    sure = (winding.abs() - 0.5).abs() > 0.1
    assert torch.equal((field.signed(points) < 0)[sure], (winding.abs() > 0.5)[sure])
