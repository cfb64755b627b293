"""The picture of a scene shows what is in it, and odd cameras are called odd."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from polyfield.datasets.builtin import builtin_scene
from polyfield.datasets.cameras import Cameras
from polyfield.datasets.images import Images
from polyfield.datasets.inspect_picture import draw_scene, oddities
from polyfield.datasets.scene import Scene


@pytest.fixture(scope="module")
def scene() -> Scene:
    return builtin_scene(views=10, size=24)


def moved(scene: Scene, poses: torch.Tensor) -> Scene:
    return replace(scene, cameras=replace(scene.cameras, world_from_camera=poses))


def colored(picture: np.ndarray, red: int, green: int, blue: int) -> np.ndarray:
    """Where a colour is, in the three drawings (without the quarter of text)."""
    close = (np.abs(picture.astype(int) - (red, green, blue)) < 12).all(axis=2)
    close[picture.shape[0] // 2 :, picture.shape[1] // 2 :] = False
    return close


def test_all_parts_are_drawn(scene: Scene) -> None:
    picture = draw_scene(scene)
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    for train_test_or_box in ((36, 92, 160), (200, 48, 60), (196, 120, 30)):
        assert colored(picture, *train_test_or_box).sum() > 20
    without_test = draw_scene(replace(scene, split={"train": tuple(range(10))}))
    # The x axis is nearly of that colour.
    red, axis = colored(picture, 200, 48, 60), colored(without_test, 200, 48, 60)
    assert (red & ~axis).sum() > 20
    assert (axis & ~red).sum() == 0


def test_known_points_are_drawn_in_their_colour_where_they_are(scene: Scene) -> None:
    drawn = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    spot = 0.02 * drawn + torch.tensor([0.5, 0.5, 0.5])
    green = torch.tensor([10, 240, 90], dtype=torch.uint8).expand(500, 3)
    before = colored(draw_scene(scene), 10, 240, 90)
    with_points = replace(scene, points=spot, point_colors=green)
    after = colored(draw_scene(with_points), 10, 240, 90)
    assert before.sum() == 0
    rows, columns = np.nonzero(after)
    assert len(rows) > 50
    first = (rows < picture_half(after)) & (columns < picture_half(after))
    half = picture_half(after)
    # x and y positive: in the upper right of the first drawing.
    assert rows[first].max() < half * 0.6
    assert columns[first].min() > half * 0.4
    assert draw_scene(replace(scene, points=spot)).shape == draw_scene(scene).shape


def picture_half(mask: np.ndarray) -> int:
    return mask.shape[0] // 2


def test_a_sound_scene_has_no_oddities(scene: Scene) -> None:
    assert oddities(scene) == ()


def test_cameras_that_look_away_are_odd(scene: Scene) -> None:
    poses = scene.cameras.world_from_camera.clone()
    poses[:, :, 1:3] *= -1  # as if OpenGL's axes had been taken for ours
    assert oddities(moved(scene, poses)) == (
        "All cameras look away from the region of interest; are the poses of another convention?",
    )
    some = scene.cameras.world_from_camera.clone()
    some[:3, :, 1:3] *= -1
    found = oddities(moved(scene, some))
    assert found[0] == "3 of 10 cameras look away from the region of interest."


def test_cameras_without_a_common_upright_are_odd(scene: Scene) -> None:
    poses = scene.cameras.world_from_camera.clone()
    for i in range(10):
        angle = torch.tensor(2 * torch.pi * i / 10, dtype=torch.float64)
        roll = torch.eye(3, dtype=torch.float64)
        roll[:2, :2] = torch.tensor(
            [[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]], dtype=torch.float64
        )
        poses[i, :, :3] = poses[i, :, :3] @ roll
    assert any(
        "agree neither on what is up" in sentence for sentence in oddities(moved(scene, poses))
    )


def test_cameras_at_one_place_or_twice_at_the_same_are_odd(scene: Scene) -> None:
    poses = scene.cameras.world_from_camera.clone()
    poses[:, :, 3] = poses[0, :, 3]
    assert any("stand at one place" in sentence for sentence in oddities(moved(scene, poses)))
    poses = scene.cameras.world_from_camera.clone()
    poses[4] = poses[7]
    assert oddities(moved(scene, poses)) == (
        "2 of 10 cameras share place and direction with another one.",
    )


def test_points_outside_of_the_region_are_odd(scene: Scene) -> None:
    far = torch.full((9, 3), 5.0)
    far[0] = 0
    assert oddities(replace(scene, points=far)) == (
        "89% of the known points lie outside the region of interest.",
    )
    assert oddities(replace(scene, points=far, unbounded=True)) == ()


def test_one_camera_and_long_warnings_are_drawn(scene: Scene) -> None:
    one = replace(
        scene,
        cameras=scene.cameras.select([0]),
        images=Images.from_arrays([np.zeros((24, 24, 3), dtype=np.uint8)]),
        names=("a.png",),
        split={"train": (0,)},
        warnings=("This goes on and on. " * 60,) * 4,
    )
    assert isinstance(one.cameras, Cameras)
    assert oddities(one) == ()
    assert draw_scene(one).shape == draw_scene(scene).shape
