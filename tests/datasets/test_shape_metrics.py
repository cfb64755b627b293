"""Measures of shapes: agreement of insides and angles of normals, on shapes whose answer is known."""

import math

import pytest
import torch
import trimesh
from torch import Generator, Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_distance import MeshDistance
from polyfield.datasets.shape_metrics import (
    InsideTruth,
    inside_near,
    inside_uniform,
    iou,
    normal_error,
)
from polyfield.datasets.surface_samples import SurfacePoints, surface_points
from polyfield.errors import InputError, ShapeError

_CUBE = trimesh.creation.box((1.0, 1, 1))
CUBE = MeshDistance(Mesh(torch.tensor(_CUBE.vertices), torch.tensor(_CUBE.faces)))


def cube(half: float):
    return lambda points: points.abs().amax(1) - half


def seed(number: int = 0) -> Generator:
    return Generator().manual_seed(number)


def test_iou_of_cubes_is_the_ratio_of_their_volumes():
    truth = inside_uniform(CUBE, seed(), 400_000)
    assert truth.points.abs().max() <= 1
    assert iou(cube(0.5), truth) == 1
    for half in (0.4, 0.6):
        expected = min(half / 0.5, 0.5 / half) ** 3
        # The union holds at least 1/8 of the points; five standard errors of a share of them.
        assert abs(iou(cube(half), truth) - expected) < 5 * math.sqrt(0.25 / 50_000)
    assert iou(lambda points: torch.ones(len(points)), truth) == 0
    assert iou(lambda points: torch.full((len(points),), math.nan), truth) == 0


def test_points_near_the_surface_are_near_and_on_both_sides():
    truth = inside_near(CUBE, seed(), 20_000, 0.02)
    distance = CUBE.unsigned(truth.points).distance
    assert distance.max() <= 0.02 + 1e-6
    # Evenly in a ball of radius r: across a plane the mean distance is 3 r / 8.
    assert abs(float(distance.mean()) / (0.02 * 3 / 8) - 1) < 0.03
    assert 0.45 < float(truth.inside.float().mean()) < 0.52
    assert iou(cube(0.5), truth) == 1
    assert iou(cube(0.505), truth) < 0.8


def test_nothing_inside_either_is_full_agreement():
    truth = InsideTruth(torch.zeros(4, 3), torch.zeros(4, dtype=torch.bool))
    assert iou(lambda points: torch.ones(len(points)), truth) == 1


@pytest.mark.parametrize("degrees", [0.0, 0.001, 30.0, 90.0, 179.0, 180.0])
def test_normal_error_is_the_angle_that_gradients_are_turned_by(degrees):
    surface = surface_points(CUBE.mesh, 1000, seed())
    angle = math.radians(degrees)

    def gradient(points: Tensor) -> Tensor:
        normals = surface.normals
        across = normals.roll(1, 1)  # of an axis: the next axis
        return 3.7 * (math.cos(angle) * normals + math.sin(angle) * across)

    assert normal_error(gradient, surface) == pytest.approx(degrees, abs=1e-5)


def test_gradients_without_direction_are_at_right_angles():
    surface = surface_points(CUBE.mesh, 4, seed())
    slopes = surface.normals.clone()
    slopes[0], slopes[1] = 0, math.nan
    slopes[2] *= 1e-30
    assert normal_error(lambda _: slopes, surface) == pytest.approx(45)


def test_messages():
    truth = inside_uniform(CUBE, seed(), 10)
    with pytest.raises(ShapeError, match=r"one value a point, \[10\], but gave \[10, 1\]"):
        iou(lambda points: points[:, :1], truth)
    surface = surface_points(CUBE.mesh, 5, seed())
    with pytest.raises(ShapeError, match=r"gradients must be \[5, 3\], but are \[5\]"):
        normal_error(lambda points: points[:, 0], surface)
    empty = SurfacePoints(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3))
    with pytest.raises(InputError, match="needs surface points, but got none"):
        normal_error(lambda points: points, empty)
