"""Cameras: rays and projections."""

import math

import pytest
import torch

from polyfield import native
from polyfield.datasets import cameras as cameras_module
from polyfield.datasets.cameras import Cameras
from polyfield.datasets.lenses import Lens
from polyfield.errors import DataError, ShapeError

FOX = Lens("OPENCV", (0.0578421, -0.0805099, -0.000980296, 0.00015575))
ROUND = Lens("OPENCV_FISHEYE", (0.05, -0.01, 0.003, -0.001))


def some_cameras(*lenses: Lens, width: int = 64, height: int = 48) -> Cameras:
    generator = torch.Generator().manual_seed(7)
    count = len(lenses)
    turn = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator, dtype=torch.float64))[0]
    turn = turn * torch.linalg.det(turn).sign()[:, None, None]
    shift = torch.randn(count, 3, 1, generator=generator, dtype=torch.float64)
    return Cameras(
        torch.cat([turn, shift], 2),
        focal=torch.tensor([[50.0, 51.0]], dtype=torch.float64).repeat(count, 1),
        center=torch.tensor([[31.0, 25.0]], dtype=torch.float64).repeat(count, 1),
        size=torch.tensor([[width, height]]).repeat(count, 1),
        lenses=lenses,
    )


def every_pixel(cameras: Cameras) -> tuple[torch.Tensor, torch.Tensor]:
    width, height = cameras.size[0].tolist()
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([x, y], -1).reshape(-1, 2) + 0.5
    ids = torch.arange(len(cameras)).repeat_interleave(len(pixels))
    return ids, pixels.repeat(len(cameras), 1)


KINDS = {
    "pinhole": (Lens(), Lens()),
    "opencv": (FOX, FOX),
    "fisheye": (ROUND,),
    "mixed": (Lens(), FOX, ROUND, Lens("SIMPLE_RADIAL", (0.02,))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_point_on_a_ray_projects_to_its_pixel(kind):
    cameras = some_cameras(*KINDS[kind])
    ids, pixels = every_pixel(cameras)
    origins, directions = cameras.rays(ids, pixels)
    assert origins.dtype == directions.dtype == torch.float32
    back = cameras.project(origins.double() + 2.5 * directions.double(), ids)
    # Rays are float32: 1e-7 of positions near 1, over a distance of 2.5, times a focal length of 50.
    torch.testing.assert_close(back, pixels.double(), atol=5e-5, rtol=0)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(len(ids)), atol=1e-6, rtol=0)


def test_axes_are_right_down_and_forward():
    pose = torch.eye(3, 4, dtype=torch.float64)[None]
    one = torch.tensor([[10.0, 10.0]], dtype=torch.float64)
    camera = Cameras(pose, one, one, torch.tensor([[20, 20]]), (Lens(),))
    pixels = torch.tensor([[20.0, 10.0], [10.0, 20.0]])  # right of the axis, below the axis
    _, directions = camera.rays(torch.tensor([0, 0]), pixels)
    half = math.sqrt(0.5)
    expected = torch.tensor([[half, 0.0, half], [0.0, half, half]])
    torch.testing.assert_close(directions, expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("kind", ["opencv", "fisheye", "mixed"])
def test_the_table_of_directions_and_the_iteration_agree(kind, monkeypatch):
    ids, pixels = every_pixel(some_cameras(*KINDS[kind]))
    looked_up = some_cameras(*KINDS[kind]).rays(ids, pixels)
    monkeypatch.setattr(cameras_module, "_TABLE_BYTES", 0)
    iterated = some_cameras(*KINDS[kind])
    assert iterated._table is None
    for one, other in zip(looked_up, iterated.rays(ids, pixels), strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_rays_between_pixel_centres_and_outside_the_image_are_iterated():
    cameras = some_cameras(FOX)
    pixels = torch.tensor([[10.25, 7.75], [-3.5, 60.5]])
    ids = torch.tensor([0, 0])
    origins, directions = cameras.rays(ids, pixels)
    back = cameras.project(origins.double() + directions.double(), ids)
    torch.testing.assert_close(back, pixels.double(), atol=5e-5, rtol=0)  # float32, as above


@pytest.mark.parametrize("lens", [Lens(), FOX, ROUND])
def test_a_pixel_of_smaller_images_looks_through_the_middle_of_its_block(lens):
    cameras = some_cameras(lens, width=65, height=50)
    small = cameras.resized(4)
    assert small.size.tolist() == [[16, 12]]
    ids = torch.zeros(3, dtype=torch.int64)
    pixels = torch.tensor([[0.5, 0.5], [7.5, 3.5], [15.5, 11.5]])
    for one, other in zip(small.rays(ids, pixels), cameras.rays(ids, pixels * 4), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)  # float32


def test_fitting_follows_the_sides_of_the_image():
    cameras = some_cameras(Lens()).fitted(torch.tensor([[32, 12]]))
    assert cameras.focal.tolist() == [[25.0, 12.75]]
    assert cameras.center.tolist() == [[15.5, 6.25]]


def test_selecting_keeps_the_order_asked_for():
    cameras = some_cameras(*KINDS["mixed"])
    chosen = cameras.select([3, 0])
    assert chosen.lenses == (cameras.lenses[3], cameras.lenses[0])
    assert torch.equal(chosen.world_from_camera, cameras.world_from_camera[[3, 0]])


def test_json_keeps_every_bit():
    cameras = some_cameras(*KINDS["mixed"])
    back = Cameras.from_json(cameras.to_json())
    for name in ("world_from_camera", "focal", "center", "size"):
        assert torch.equal(getattr(back, name), getattr(cameras, name))
    assert back.lenses == cameras.lenses


def test_broken_json_is_refused():
    with pytest.raises(DataError, match="The list of cameras is broken"):
        Cameras.from_json([{"focal": [1.0, 1.0]}])


def test_what_a_lens_cannot_see_is_known_and_its_rays_are_finite():
    cameras = some_cameras(Lens("SIMPLE_RADIAL", (-1 / 3,)))  # folds at 2/3 of the plane
    pixels = torch.tensor([[31.0, 25.0], [31.0 + 50 * 0.6, 25.0], [31.0 + 50 * 0.7, 25.0]])
    ids = torch.zeros(3, dtype=torch.int64)
    assert cameras.seen(ids, pixels).tolist() == [True, True, False]
    assert torch.isfinite(cameras.rays(ids, pixels)[1]).all()


def test_shapes_are_checked():
    with pytest.raises(ShapeError) as raised:
        Cameras(
            torch.eye(3, 4, dtype=torch.float64)[None],
            torch.ones(1, 2),
            torch.ones(1, 2, dtype=torch.float64),
            torch.tensor([[1, 1]]),
            (Lens(),),
        )
    assert str(raised.value) == (
        "Cameras: focal must be torch.float64 of shape (1, 2) for 1 lenses,"
        " but is torch.float32 of shape (1, 2)."
    )


def test_straight_rays_with_and_without_kernels(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    cameras = some_cameras(Lens(), Lens(), Lens())
    ids = torch.randint(3, (5000,), generator=generator)
    pixels = torch.rand(5000, 2, generator=generator) * 200 - 50
    ours = cameras.rays(ids, pixels)
    with pytest.raises(IndexError):
        cameras.rays(torch.tensor([3]), pixels[:1])
    monkeypatch.setattr(native, "usable", lambda *_: False)
    plain = cameras.rays(ids, pixels)
    assert torch.equal(ours[0], plain[0])
    # Unit vectors, of terms that grow with the pixel: some roundings of 2^-24 each.
    torch.testing.assert_close(ours[1], plain[1], rtol=0, atol=1e-6)
    with pytest.raises(IndexError):
        cameras.rays(torch.tensor([3]), pixels[:1])
