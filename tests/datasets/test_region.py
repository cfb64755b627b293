"""The region of a scene: laws that hold whatever the data, and cases with a known answer."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polyfield.datasets.cameras import Cameras
from polyfield.datasets.lenses import Lens
from polyfield.datasets.posed import Posed
from polyfield.datasets.region import choose_region, focus, forward_facing


def looking(positions: torch.Tensor, targets: torch.Tensor) -> Cameras:
    """Cameras with a view of 90 degrees, each looking at its target."""
    count = len(positions)
    forward = torch.nn.functional.normalize(targets - positions, dim=1)
    up = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64).expand(count, 3)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=1)
    down = torch.linalg.cross(forward, right)
    both = torch.full((count, 2), 50.0, dtype=torch.float64)
    return Cameras(
        torch.stack([right, down, forward, positions], 2),
        both,
        both.clone(),
        torch.full((count, 2), 100),
        (Lens(),) * count,
    )


def ring(center: tuple[float, float, float], radius: float, count: int = 12) -> Cameras:
    middle = torch.tensor([center], dtype=torch.float64)
    angle = torch.arange(count, dtype=torch.float64) * (2 * torch.pi / count)
    around = torch.stack([angle.cos(), angle.sin(), 0.3 * torch.ones_like(angle)], 1)
    positions = middle + radius * torch.nn.functional.normalize(around, dim=1)
    return looking(positions, middle.expand(count, 3))


def row(count: int = 7) -> Cameras:
    """Cameras in a row that look along y, a little towards the point (0, 10, 0)."""
    positions = torch.zeros(count, 3, dtype=torch.float64)
    positions[:, 0] = torch.linspace(-1, 1, count)
    return looking(
        positions, torch.tensor([[0.0, 10.0, 0.0]], dtype=torch.float64).expand(count, 3)
    )


def posed(cameras: Cameras, **more: object) -> Posed:
    count = len(cameras)
    names = tuple(f"{i}.png" for i in range(count))
    return Posed("colmap", "", cameras, tuple(map(Path, names)), names, (None,) * count, **more)


def test_the_focus_is_where_the_cameras_look():
    found = focus(ring((3.0, -2.0, 5.0), 4.0))
    # The identity that keeps parallel axes solvable weighs 1e-9.
    torch.testing.assert_close(
        found, torch.tensor([3.0, -2.0, 5.0], dtype=torch.float64), atol=1e-8, rtol=0
    )


def test_parallel_axes_have_a_finite_focus():
    cameras = row()
    straight = cameras.world_from_camera.clone()
    straight[:, :, :3] = straight[3, :, :3]
    assert torch.isfinite(focus(replace(cameras, world_from_camera=straight))).all()


def test_forward_facing():
    assert forward_facing(row())
    assert not forward_facing(ring((0.0, 0.0, 0.0), 4.0))
    assert not forward_facing(row(1))


def test_a_synthetic_object_lies_in_the_usual_box():
    # A view of 90 degrees from a distance of 1.5 sees 3 units.
    region = choose_region(posed(ring((0.0, 0.0, 0.0), 1.5)), has_alpha=True)
    assert region.box.tolist() == [[-1.5] * 3, [1.5] * 3]
    assert not region.unbounded


@pytest.mark.parametrize("has_alpha", [True, False])
def test_another_object_lies_where_the_cameras_look(has_alpha):
    region = choose_region(posed(ring((10.0, 0.0, 0.0), 4.0)), has_alpha)
    expected = torch.tensor([[6.0, -4.0, -4.0], [14.0, 4.0, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(region.box, expected, atol=1e-7, rtol=0)
    assert region.unbounded == (not has_alpha)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("with_bounds", [True, False])
def test_a_region_scales_with_the_world(scale, with_bounds):
    """COLMAP's unit is arbitrary, so no decision may hang on it."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    bounds = torch.tensor([[2.0, 9.0]], dtype=torch.float64).repeat(12, 1)
    cameras = ring((0.0, 0.0, 0.0), 5.0)
    pose = cameras.world_from_camera.clone()
    pose[:, :, 3] *= scale
    moved = posed(
        replace(cameras, world_from_camera=pose),
        points=points * scale,
        bounds=bounds * scale if with_bounds else None,
    )
    one = choose_region(
        posed(cameras, points=points, bounds=bounds if with_bounds else None), False
    )
    region = choose_region(moved, False)
    torch.testing.assert_close(region.box, one.box * scale, rtol=1e-6, atol=1e-6 * scale)
    assert region.near == pytest.approx(one.near * scale, rel=1e-6)
    assert region.far == pytest.approx(one.far * scale, rel=1e-6)


def test_wild_points_do_not_blow_the_region_up():
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(1000, 3, generator=generator, dtype=torch.float64) * 2 - 1
    calm = choose_region(posed(ring((0.0, 0.0, 0.0), 5.0), points=points), False)
    points[::20] *= 1e6
    wild = choose_region(posed(ring((0.0, 0.0, 0.0), 5.0), points=points), False)
    assert float((wild.box - calm.box).abs().max()) < 0.2
    assert bool((calm.box.abs() < 3).all())


def test_cameras_that_face_forward_without_points_use_their_bounds():
    bounds = torch.tensor([[5.0, 20.0]], dtype=torch.float64).repeat(7, 1)
    region = choose_region(posed(row(), bounds=bounds), False)
    middle = region.box.mean(0)
    assert region.forward_facing
    assert float(middle[1]) == pytest.approx(8, rel=0.02)  # 2 / (1/5 + 1/20); axes turn a little
    assert region.near == pytest.approx(0.75 * 5)
    assert region.far == pytest.approx(2 * 20)


@pytest.mark.parametrize("radius", [0.0, 2.0])
def test_cameras_that_look_outwards_stand_in_the_middle_of_their_region(radius):
    inward = ring((1.0, 0.0, 0.0), 2.0)
    pose = inward.world_from_camera.clone()
    pose[:, :, [0, 2]] *= -1  # turned about the vertical
    middle = pose[:, :, 3].mean(0)
    pose[:, :, 3] = middle + (pose[:, :, 3] - middle) * (radius / 2)
    cameras = replace(inward, world_from_camera=pose)
    region = choose_region(posed(cameras), False)
    torch.testing.assert_close(region.box.mean(0), middle, atol=1e-9, rtol=0)
    assert bool(((region.box[1] - region.box[0]) > radius).all())
    assert "look outwards" in region.why
    bounds = torch.tensor([[2.0, 9.0]], dtype=torch.float64).repeat(12, 1)
    assert "look outwards" in choose_region(posed(cameras, bounds=bounds), False).why


def test_a_declared_cube_is_taken_as_it_is():
    cube = ((-1.0, -2.0, -3.0), (1.0, 0.0, -1.0))
    region = choose_region(posed(ring((0.0, 0.0, 0.0), 4.0), cube=cube, cube_reach=4.0), False)
    assert region.box.tolist() == [list(side) for side in cube]
    assert region.unbounded
    bounded = choose_region(posed(ring((0.0, 0.0, 0.0), 4.0), cube=cube), True)
    assert not bounded.unbounded
    assert bounded.far < region.far
