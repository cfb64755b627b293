"""Points on and around meshes: spread by area, in fixed shares, the same each time."""

import math

import pytest
import torch
import trimesh
from torch import Generator, Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_distance import MeshDistance
from polyfield.datasets.mesh_file import read_mesh
from polyfield.datasets.surface_samples import (
    ShapeSamples,
    distance_samples,
    occupancy_samples,
    outward,
    surface_points,
    unsigned_samples,
)
from polyfield.errors import InputError


def made(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(torch.tensor(shape.vertices), torch.tensor(shape.faces))


BOX = made(trimesh.creation.box((1.8, 0.9, 0.3)))
FIELD = MeshDistance(BOX)


def seed(number: int) -> Generator:
    return Generator().manual_seed(number)


def test_points_lie_on_their_faces():
    points = surface_points(BOX, 5000, seed(0))
    assert FIELD.unsigned(points.positions).distance.max() < 1e-7  # rounding to float32
    corner = BOX.vertices[BOX.faces[points.faces, 0]]
    height = ((points.positions - corner) * points.normals).sum(1)
    assert height.abs().max() < 2e-7
    assert torch.equal(points.normals, BOX.normals[points.faces].float())


def test_points_are_spread_by_area():
    count = 100_000
    points = surface_points(BOX, count, seed(1))
    share = torch.bincount(points.faces, minlength=12) / count
    expected = BOX.areas / BOX.areas.sum()
    # Five standard deviations of a binomial share.
    assert ((share - expected).abs() < 5 * (expected * (1 - expected) / count).sqrt()).all()
    # Evenly within a face too: the mean of what fell on it is its middle, to five standard errors.
    for face in range(12):
        here = points.positions[points.faces == face].double()
        error = here.mean(0) - BOX.corners[face].mean(0)
        assert (error.abs() <= 5 * here.std(0) / math.sqrt(len(here)) + 1e-7).all()


def test_faces_without_area_get_no_points():
    flat = Mesh(BOX.vertices, torch.cat([torch.zeros(3, 3, dtype=torch.int64), BOX.faces]))
    points = surface_points(flat, 1000, seed(0))
    assert points.faces.min() >= 3
    assert torch.equal(points.positions, surface_points(BOX, 1000, seed(0)).positions)


def turned(mesh: Mesh) -> Mesh:
    """The mesh inside out."""
    return Mesh(mesh.vertices, mesh.faces.flip(1))


def joined(*meshes: Mesh) -> Mesh:
    starts = torch.tensor([0] + [len(mesh.vertices) for mesh in meshes]).cumsum(0)
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]
    return Mesh(torch.cat([mesh.vertices for mesh in meshes]), torch.cat(faces))


def slab(low: float, high: float) -> Mesh:
    box = made(trimesh.creation.box((1.0, 1.0, high - low)))
    return Mesh(box.vertices + torch.tensor([0.0, 0.0, (low + high) / 2]), box.faces)


def test_normals_of_a_body_turned_inside_out_point_outwards():
    right, wrong = surface_points(BOX, 5000, seed(0)), surface_points(turned(BOX), 5000, seed(0))
    assert torch.equal(outward(right, FIELD).normals, right.normals)
    assert torch.equal(outward(wrong, MeshDistance(turned(BOX))).normals, -wrong.normals)


def test_normals_are_turned_part_by_part():
    """A cavity is wound as its body is not; beside it stands a body that is inside out."""
    hollow = joined(BOX, turned(Mesh(BOX.vertices / 2, BOX.faces)))
    away = torch.tensor([0.0, 5.0, 0.0])
    for mesh in (hollow, turned(hollow)):
        both = joined(mesh, turned(Mesh(BOX.vertices + away, BOX.faces)))
        points = surface_points(both, 5000, seed(0))
        seen = outward(points, MeshDistance(both))
        assert torch.equal(seen.positions, points.positions)
        # Off the surface along its normal a point is outside.
        assert MeshDistance(both).signed(seen.positions + 0.01 * seen.normals).min() > 0


@pytest.mark.parametrize("thin", [1e-3, 1e-5, 1e-6])
def test_right_normals_are_kept_where_walls_and_gaps_are_thin(thin):
    walls = joined(*(slab(2 * k * thin, (2 * k + 1) * thin) for k in range(4)))
    points = surface_points(walls, 5000, seed(0))
    assert torch.equal(outward(points, MeshDistance(walls)).normals, points.normals)


def test_normals_of_what_has_no_inside_are_kept():
    sheet = Mesh(BOX.vertices, BOX.faces[:1])
    points = surface_points(sheet, 1000, seed(0))
    assert torch.equal(outward(points, MeshDistance(sheet)).normals, points.normals)


@pytest.mark.parametrize("name", ["armadillo.obj", "fertility.off", "spot.obj"])
def test_normals_of_real_bodies_are_kept(data_dir, name):
    mesh, _ = read_mesh(data_dir / "meshes" / name).placed_within()
    points = surface_points(mesh, 20_000, seed(0))
    assert torch.equal(outward(points, MeshDistance(mesh)).normals, points.normals)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_few_points(count):
    points = surface_points(BOX, count, seed(0))
    assert points.positions.shape == points.normals.shape == (count, 3)
    assert torch.equal(outward(points, FIELD).normals, points.normals)


@pytest.mark.parametrize("make", [distance_samples, unsigned_samples, occupancy_samples])
def test_the_same_seed_gives_the_same_pool(make):
    first, again, other = (make(FIELD, 4000, seed(s)) for s in (0, 0, 1))
    assert torch.equal(first.points, again.points)
    assert torch.equal(first.values, again.values)
    assert not torch.equal(first.points, other.points)


def kinds(samples: ShapeSamples) -> Tensor:
    return samples.points.view(-1, 8, 3)


def test_shares_and_values_of_a_pool_of_distances():
    samples = distance_samples(FIELD, 80_001, seed(0))
    assert len(samples) == 80_008
    assert torch.equal(samples.values, FIELD.signed(samples.points))
    rows = samples.values.view(-1, 8)
    # Noise seen across a plane: the mean distance is sigma sqrt(2 / pi), but for edges, and no side is preferred.
    for part, sigma in ((rows[:, :4], 0.001), (rows[:, 4:7], 0.01)):
        assert abs(float(part.abs().mean()) / (sigma * math.sqrt(2 / math.pi)) - 1) < 0.05
        assert abs(float((part < 0).float().mean()) - 0.5) < 0.02
    anywhere = kinds(samples)[:, 7]
    assert anywhere.abs().max() <= 1
    # Uniform in [-1, 1]: mean 0 and mean square 1/3, with variances 1/3 and 4/45; to five standard errors.
    count = len(anywhere)
    assert anywhere.mean(0).abs().max() < 5 * math.sqrt(1 / 3 / count)
    assert (anywhere.square().mean(0) - 1 / 3).abs().max() < 5 * math.sqrt(4 / 45 / count)


def test_unsigned_is_the_size_of_signed():
    signed, unsigned = (make(FIELD, 4000, seed(0)) for make in (distance_samples, unsigned_samples))
    assert torch.equal(signed.values.abs(), unsigned.values)
    assert torch.equal(signed.points, unsigned.points)


def test_occupancy_is_the_side():
    samples = occupancy_samples(FIELD, 8000, seed(0))
    assert torch.equal(samples.values == 1, FIELD.signed(samples.points) < 0)
    assert set(samples.values.unique().tolist()) == {0, 1}
    near = kinds(samples)[:, :7].reshape(-1, 3)
    assert FIELD.unsigned(near).distance.max() < 0.1
    assert 0.3 < float(samples.values.view(-1, 8)[:, :7].mean()) < 0.7


def test_batches_are_stretches_of_the_pool():
    samples = ShapeSamples(torch.arange(300.0)[:, None].expand(-1, 3), torch.arange(300.0))
    generator, starts = seed(0), set()
    for _ in range(500):
        points, values = samples.batch(64, generator)
        assert torch.equal(points[:, 0], values)
        start = int(values[0])
        assert start % 8 == 0
        assert torch.equal(values, (start + torch.arange(64.0)) % 300)
        starts.add(start)
    assert starts == set(range(0, 296, 8))
    whole = samples.batch(300, generator)[1]
    assert torch.equal(whole.sort().values, samples.values)
    assert torch.equal(samples.batch(64, seed(5))[1], samples.batch(64, seed(5))[1])


def test_messages():
    samples = ShapeSamples(torch.zeros(16, 3), torch.zeros(16))
    with pytest.raises(
        InputError, match="size of a batch must be a whole number from 1 to 16, but"
    ):
        samples.batch(17, seed(0))
    with pytest.raises(InputError, match="size of a pool must be a whole number >= 1, but is 0"):
        distance_samples(FIELD, 0, seed(0))
    with pytest.raises(InputError, match="number of surface points must be a whole number >= 0"):
        surface_points(BOX, -1, seed(0))
