"""How alike meshes are: laws, closed forms, and each point against each triangle by another library."""

import math

import pytest
import torch
import trimesh
from torch import Generator, Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.surface_samples import surface_points
from polyfield.meshing import likeness as module
from polyfield.meshing.likeness import Likeness, likeness

POINTS = 600  # few: without native code each is compared with each triangle


@pytest.fixture(autouse=True)
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POINTS", POINTS)


def made(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(torch.tensor(shape.vertices), torch.tensor(shape.faces))


def flipped(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices, mesh.faces.flip(1))


def square(z: float = 0.0, tilt: float = 0.0) -> Mesh:
    """Of side 2, turned about the x axis."""
    y = torch.tensor([-1.0, -1, 1, 1], dtype=torch.float64)
    x = torch.tensor([-1.0, 1, 1, -1], dtype=torch.float64)
    vertices = torch.stack([x, y * math.cos(tilt), y * math.sin(tilt) + z], 1)
    return Mesh(vertices, torch.tensor([[0, 1, 2], [0, 2, 3]]))


def joined(*meshes: Mesh) -> Mesh:
    vertices, faces, first = [], [], 0
    for mesh in meshes:
        vertices.append(mesh.vertices)
        faces.append(mesh.faces + first)
        first += len(mesh.vertices)
    return Mesh(torch.cat(vertices), torch.cat(faces))


SPHERE, TORUS = made(trimesh.creation.icosphere(2)), made(trimesh.creation.torus(1.0, 0.4, 16, 12))
EGG = Mesh(SPHERE.vertices * torch.tensor([1.2, 0.9, 1.0]).double(), SPHERE.faces)


@pytest.mark.parametrize("mesh", [SPHERE, TORUS, square()], ids=["sphere", "torus", "square"])
def test_a_mesh_is_like_itself(mesh: Mesh) -> None:
    found = likeness(mesh, mesh, near=1e-6)
    # Points on it are rounded to float32: coordinates up to 1.4, by 6e-8 an axis.
    for distance in (found.accuracy, found.accuracy_99, found.completeness, found.completeness_99):
        assert 0 <= distance < 2e-7
    assert found.f_score == 1
    # Of points rounded off an edge, few of hundreds, the neighbour may be closest: it is turned by 0.5 at most here.
    assert 1 - 1e-3 < found.normal_consistency <= 1 + 1e-9


@pytest.mark.parametrize("gap", [1e-3, 0.1, 5.0])
def test_two_parallel_planes_are_their_gap_apart(gap: float) -> None:
    found = likeness(square(), square(gap), near=1.01 * gap)
    for distance in (found.accuracy, found.accuracy_99, found.completeness, found.completeness_99):
        assert distance == pytest.approx(gap, rel=1e-6)  # float32
    assert found.f_score == 1
    assert likeness(square(), square(gap), near=0.99 * gap).f_score == 0
    assert found.normal_consistency == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("tilt", [0.0, 0.3, 1.0, math.pi / 2, 2.5])
def test_normals_agree_by_the_size_of_their_cosine(tilt: float) -> None:
    found = likeness(square(), square(tilt=tilt), near=0.1)
    assert found.normal_consistency == pytest.approx(abs(math.cos(tilt)), abs=1e-12)


def test_turning_a_mesh_inside_out_changes_nothing() -> None:
    plain = likeness(EGG, SPHERE, near=0.05)
    for one, other in ((flipped(EGG), SPHERE), (EGG, flipped(SPHERE))):
        found = likeness(one, other, near=0.05)
        # The same triangles with their corners in another order: other points of chance, hundreds of them, and for
        # means of distances up to 0.2 that is a few thousandths; of cosines above 0.9, less.
        assert found.accuracy == pytest.approx(plain.accuracy, abs=0.02)
        assert found.normal_consistency == pytest.approx(plain.normal_consistency, abs=0.02)


def test_exchanging_the_meshes_exchanges_accuracy_and_completeness() -> None:
    one, other = likeness(EGG, TORUS, near=0.1), likeness(TORUS, EGG, near=0.1)
    assert (one.accuracy, one.accuracy_99) == (other.completeness, other.completeness_99)
    assert (one.completeness, one.completeness_99) == (other.accuracy, other.accuracy_99)
    assert one.f_score == pytest.approx(other.f_score, rel=1e-12)
    assert one.normal_consistency == pytest.approx(other.normal_consistency, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_lengths_grow_with_the_meshes(scale: float) -> None:
    plain = likeness(EGG, SPHERE, near=0.05)
    grown = (Mesh(scale * mesh.vertices, mesh.faces) for mesh in (EGG, SPHERE))
    found = likeness(*grown, near=0.05 * scale)
    for name in ("accuracy", "accuracy_99", "completeness", "completeness_99"):
        # Roundings of float32 of coordinates of 1, against distances of a tenth.
        assert getattr(found, name) == pytest.approx(scale * getattr(plain, name), rel=1e-5)
    # A point or two of hundreds may pass the bound.
    assert found.f_score == pytest.approx(plain.f_score, abs=2 / POINTS)


def oracle(one: Mesh, other: Mesh) -> Tensor:
    """Distances of the same points, from all triangles one by one."""
    points = surface_points(one, POINTS, Generator().manual_seed(module._SEED)).positions.double()
    best = torch.full((len(points),), math.inf, dtype=torch.float64)
    for corners in other.corners:
        repeated = corners.expand(len(points), 3, 3).numpy()
        closest = trimesh.triangles.closest_point(repeated, points.numpy())
        best = torch.minimum(best, (torch.tensor(closest) - points).norm(dim=1))
    return best


def test_distances_are_those_of_trimesh() -> None:
    one, other = made(trimesh.creation.icosphere(1)), made(trimesh.creation.box((1.2, 1.5, 1.9)))
    found, near = likeness(one, other, near=0.15), 0.15
    there, back = oracle(one, other), oracle(other, one)
    # Means of float32 distances.
    assert found.accuracy == pytest.approx(float(there.mean()), abs=1e-6)
    assert found.completeness == pytest.approx(float(back.mean()), abs=1e-6)
    assert found.accuracy_99 == pytest.approx(float(there.quantile(0.99)), abs=1e-6)
    assert found.completeness_99 == pytest.approx(float(back.quantile(0.99)), abs=1e-6)
    shares = float((there <= near).double().mean()), float((back <= near).double().mean())
    assert 0.1 < min(shares) < max(shares) < 0.9
    # A point or two may lie at the bound to within the rounding of float32.
    assert found.f_score == pytest.approx(2 / (1 / shares[0] + 1 / shares[1]), abs=2 / POINTS)


@pytest.mark.parametrize(("side", "outlying"), [(0.05, False), (0.4, True)])
def test_ninety_nine_of_a_hundred_overlook_what_is_small(side: float, outlying: bool) -> None:
    """A piece far off, of 1/1600 or 4 % of the area: the mean sees it, the 99th only if it is more than a hundredth."""
    stray = square(10.0)
    stray = Mesh(stray.vertices * torch.tensor([side / 2, side / 2, 1]).double(), stray.faces)
    found = likeness(joined(square(), stray), square(), near=0.01)
    share = side**2 / (4 + side**2)
    # By chance, six hundred draws: six standard deviations.
    spread = 6 * math.sqrt(share / POINTS)
    assert found.accuracy == pytest.approx(10 * share, abs=10 * spread)
    assert (found.accuracy_99 > 9) == outlying
    assert found.completeness < 1e-7
    assert found.f_score == pytest.approx(2 * (1 - share) / (2 - share), abs=spread)


def test_nothing_near_is_a_score_of_nothing() -> None:
    found = likeness(square(), square(100.0), near=1.0)
    assert found.f_score == 0


def test_json_has_all_of_it() -> None:
    found = likeness(EGG, SPHERE, near=0.05)
    assert Likeness(**found.json()) == found
    assert found.json()["near"] == 0.05
