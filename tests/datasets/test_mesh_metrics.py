"""Distances between meshes, where they are known in closed form, and beside another library's closest points."""

import math

import pytest
import torch
import trimesh
from torch import Generator, Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_distance import MeshDistance
from polyfield.datasets.mesh_metrics import compare_meshes
from polyfield.datasets.surface_samples import surface_points
from polyfield.errors import InputError


def square(side: float = 1.0, height: float = 0.0) -> Mesh:
    places = [[0, 0, height], [side, 0, height], [side, side, height], [0, side, height]]
    return Mesh(torch.tensor(places, dtype=torch.float64), torch.tensor([[0, 1, 2], [0, 2, 3]]))


def ball(radius: float) -> Mesh:
    made = trimesh.creation.icosphere(subdivisions=5, radius=radius)
    return Mesh(torch.tensor(made.vertices), torch.tensor(made.faces))


def seed(number: int = 0) -> Generator:
    return Generator().manual_seed(number)


def test_a_mesh_is_like_itself() -> None:
    found = compare_meshes(ball(0.5), MeshDistance(ball(0.5)), seed())
    assert found.accuracy < 1e-7  # single precision
    assert found.completeness < 1e-7
    assert found.f_score == 1.0
    assert found.normal_consistency > 1 - 1e-6


def test_shells_are_apart_by_the_difference_of_their_radii() -> None:
    found = compare_meshes(ball(0.5), MeshDistance(ball(0.51)), seed(), threshold=0.02)
    # An icosphere of 20,480 faces lies up to 2e-4 of its radius below the sphere.
    assert found.accuracy == pytest.approx(0.01, abs=2e-4)
    assert found.completeness == pytest.approx(0.01, abs=2e-4)
    assert found.f_score == 1.0
    assert found.normal_consistency > 0.999
    assert compare_meshes(ball(0.5), MeshDistance(ball(0.51)), seed(), threshold=0.005).f_score == 0


def test_what_is_missing_counts_in_one_direction() -> None:
    """A unit square of which a corner of a half is there: points beyond it are as far as they are away from it."""
    found = compare_meshes(square(0.5), MeshDistance(square()), seed(), count=1 << 18)
    assert found.accuracy < 1e-7
    # Half of the points lie beside it, 0.25 away in the mean; a quarter lies beyond the corner, by the mean length of
    # a vector in a square of side 1/2.
    corner = 0.5 * (math.sqrt(2) + math.log(1 + math.sqrt(2))) / 3
    assert found.completeness == pytest.approx(0.5 * 0.25 + 0.25 * corner, rel=0.01)
    recall = 0.25 + 2 * 0.5 * 0.005
    assert found.f_score == pytest.approx(2 * recall / (1 + recall), rel=0.02)


def test_which_way_faces_are_turned_does_not_matter() -> None:
    turned = Mesh(square().vertices, square().faces.flip(1))
    assert compare_meshes(turned, MeshDistance(square()), seed()).normal_consistency == 1.0


def test_a_right_angle_has_no_normals_in_common() -> None:
    wall = Mesh(square().vertices[:, [0, 2, 1]], square().faces)
    assert compare_meshes(wall, MeshDistance(square()), seed()).normal_consistency < 1e-6


def test_distances_are_those_of_another_library() -> None:
    truth = trimesh.creation.box((1.0, 0.7, 0.4)).subdivide().subdivide()
    mesh, other = ball(0.4), Mesh(torch.tensor(truth.vertices), torch.tensor(truth.faces))
    found = compare_meshes(mesh, MeshDistance(other), seed(3), count=2000)
    points = surface_points(mesh, 2000, seed(3)).positions.double()
    corners = torch.tensor(truth.triangles)
    closest = torch.stack([nearest_of(point, corners) for point in points])
    assert found.accuracy == pytest.approx(float((points - closest).norm(dim=1).mean()), rel=1e-5)


def nearest_of(point: Tensor, corners: Tensor) -> Tensor:
    """By trimesh's closest point of each triangle."""
    places = trimesh.triangles.closest_point(corners.numpy(), point.expand(len(corners), 3).numpy())
    places = torch.tensor(places)
    return places[(places - point).norm(dim=1).argmin()]


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan")])
def test_a_threshold_is_a_length(threshold: float) -> None:
    with pytest.raises(InputError, match="length above 0"):
        compare_meshes(square(), MeshDistance(square()), seed(), threshold=threshold)
