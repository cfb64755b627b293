"""Blender scenes: what was written is read back, the real one, and broken ones."""

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from polyfield.datasets.formats import blender
from polyfield.datasets.load import load_scene, read_posed
from polyfield.datasets.scene import Scene
from polyfield.errors import DataError, InputError


@pytest.fixture
def folder(small_scene: Scene, tmp_path: Path) -> Path:
    blender.write(small_scene, tmp_path)
    return tmp_path


def change(folder: Path, **changes: object) -> None:
    """Spoil the first training frame."""
    file = folder / "transforms_train.json"
    data = json.loads(file.read_text())
    data["frames"][0].update(changes)
    file.write_text(json.dumps(data))


def test_a_scene_survives_being_written(small_scene, folder):
    scene = load_scene(folder)
    order = [i for name in ("train", "val", "test") for i in small_scene.split[name]]
    wanted = small_scene.cameras.select(order)
    assert scene.format == "blender"
    assert {name: len(ids) for name, ids in scene.split.items()} == {
        name: len(ids) for name, ids in small_scene.split.items()
    }
    # The polar iteration moves the last bits; the angle of view passes through tan and atan.
    torch.testing.assert_close(
        scene.cameras.world_from_camera, wanted.world_from_camera, atol=1e-14, rtol=0
    )
    torch.testing.assert_close(scene.cameras.focal, wanted.focal, atol=0, rtol=1e-14)
    assert torch.equal(scene.cameras.center, wanted.center)
    assert torch.equal(scene.cameras.size, wanted.size)
    for place, i in enumerate(order):
        # 8 bits of straight colour, rounded once each way: half a step, and alpha's as well.
        torch.testing.assert_close(
            scene.images.image(place), small_scene.images.image(i), atol=1.01 / 255, rtol=0
        )


def test_a_scene_with_a_transparent_background_is_bounded(folder):
    scene = load_scene(folder)
    assert not scene.unbounded
    assert 0 < scene.near < scene.far
    assert "transparent" in scene.reason


@pytest.mark.real_data
def test_lego(data_dir):
    posed = read_posed(data_dir / "scenes" / "blender-lego")
    assert {name: len(ids) for name, ids in posed.split.items()} == {
        "train": 100,
        "val": 2,
        "test": 25,
    }
    assert posed.cameras.size.unique(dim=0).tolist() == [[800, 800]]
    torch.testing.assert_close(
        posed.cameras.focal, torch.full((127, 2), 1111.111, dtype=torch.float64), atol=1e-3, rtol=0
    )
    # All cameras look at the origin from a sphere (known of this scene, see its README).
    torch.testing.assert_close(
        posed.cameras.forward * 4.0311289, -posed.cameras.positions, atol=1e-5, rtol=0
    )
    # Its first camera: the file's numbers, y and z axes turned over.
    first = posed.cameras.world_from_camera[0]
    assert first[:, 3].tolist() == [-0.05379832163453102, 3.845470428466797, 1.2080823183059692]
    assert first[1].tolist()[:3] == pytest.approx(
        [-0.013988681137561798, 0.2996590733528137, -0.95394366979599], abs=1e-6
    )


def turned(matrix: list[list[float]]) -> list[list[float]]:
    return [[-row[0], *row[1:]] for row in matrix[:3]] + [matrix[3]]


MATRIX = [[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 3], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file_path": "/etc/passwd"}, "the file name '/etc/passwd' is absolute"),
        ({"file_path": "C:\\images\\a"}, "is absolute"),
        ({"file_path": "train/../../r_0"}, "leaves the folder of the scene by '..'"),
        ({"file_path": "..\\r_0"}, "leaves the folder of the scene by '..'"),
        ({"file_path": 3}, "a file name must be a text"),
        ({"file_path": "./train/r_1"}, "names train/r_1 2 times"),
        ({"file_path": "train/r_999"}, "names 1 images that do not exist: train/r_999."),
        ({"transform_matrix": turned(MATRIX)}, "is left-handed (mirrored)"),
        ({"transform_matrix": [[0.0] * 4] * 3 + [MATRIX[3]]}, "is singular"),
        ({"transform_matrix": [[math.nan] * 4] * 3 + [MATRIX[3]]}, "is not finite"),
        ({"transform_matrix": [[1e30] * 4] * 3 + [MATRIX[3]]}, "has numbers above 1e+09"),
        ({"transform_matrix": [[1, 0.1, 0, 0], *MATRIX[1:]]}, "are not at right angles"),
        ({"transform_matrix": [[1.1, 0, 0, 0], *MATRIX[1:]]}, "not equally long"),
        ({"transform_matrix": MATRIX[:2]}, "must be a 4x4 or 3x4 matrix, but its shape is 2x4"),
        ({"transform_matrix": [*MATRIX[:3], [0, 0, 1, 1]]}, "the last row of the pose"),
        ({"transform_matrix": "up"}, "is not a matrix of numbers"),
        ({"transform_matrix": [[1, 2], [3]]}, "is not a matrix of numbers"),
        ({"camera_angle_x": 0}, "a camera angle must lie between 0 and pi, but is 0"),
        ({"camera_angle_x": 4}, "a camera angle must lie between 0 and pi"),
        ({"camera_angle_x": "wide"}, "camera_angle_x must be a number, but is 'wide'"),
        ({"fl_x": 0}, "must be a number above 0"),
        ({"fl_x": -10}, "must be a number above 0"),
        ({"fl_x": math.nan}, "fl_x must be a finite number"),
        ({"fl_x": 1e-9}, "does not fit its image size"),
        ({"cx": 1e9}, "is not near its image"),
        ({"w": 0, "h": 24}, "the image size of train/r_0.png is not usable"),
        ({"w": 30, "h": 24}, "train/r_0.png is 24x24 pixels, but transforms_train.json declares"),
        ({"w": 1.5, "h": 24}, "w and h must be whole numbers"),
        ({"camera_model": "OPENGL"}, "there is no camera_model 'OPENGL'"),
        ({"k4": 0.1}, "k4 is for fisheyes"),
    ],
)
def test_a_broken_frame_is_one_sentence(folder, changes, message):
    change(folder, **changes)
    with pytest.raises(DataError) as raised:
        read_posed(folder)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_uniform_scale_in_a_pose_is_taken_off_with_a_warning(folder):
    straight = read_posed(folder).cameras.world_from_camera[0]
    file = folder / "transforms_train.json"
    data = json.loads(file.read_text())
    matrix = data["frames"][0]["transform_matrix"]
    change(folder, transform_matrix=[[*(2 * v for v in row[:3]), row[3]] for row in matrix[:3]])
    posed = read_posed(folder)
    torch.testing.assert_close(posed.cameras.world_from_camera[0], straight, atol=1e-14, rtol=0)
    assert posed.warnings == (
        "transforms_train.json: 1 poses have a scale in their rotation (2); it was removed,"
        " the positions were kept.",
    )


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_json_that_is_cut_off(folder, share):
    file = folder / "transforms_train.json"
    text = file.read_text()
    file.write_text(text[: int(share * len(text))])
    with pytest.raises(DataError, match=r"is not valid JSON .*; is it cut off\?"):
        read_posed(folder)


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"frames": 7}'])
def test_json_of_something_else(folder, text):
    (folder / "transforms_train.json").write_text(text)
    with pytest.raises(DataError, match="has no list of frames"):
        read_posed(folder)


@pytest.mark.parametrize("name", ["train", "test"])
def test_no_frames_are_zero_views(folder, name):
    file = folder / f"transforms_{name}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "frames": []}))
    with pytest.raises(DataError) as raised:
        read_posed(folder)
    assert str(raised.value) == (
        f"{file} lists no frames, so there are zero {name} views; add some, or take the file away."
    )


def test_one_image_of_another_size(folder):
    Image.new("RGBA", (12, 12)).save(folder / "train/r_2.png")
    with pytest.raises(DataError) as raised:
        read_posed(folder)
    assert str(raised.value) == (
        "train/r_2.png is 12x12 pixels, but 6 of the 7 images of transforms_train.json, which have one"
        " camera in common, are 24x24; all must be of one size."
    )
    change(folder, camera_angle_x=0.5)  # the first frame is another camera then
    for size, status in ((24, True), (12, False)):
        Image.new("RGBA", (12, 12)).save(folder / "train/r_0.png")
        Image.new("RGBA", (size, size)).save(folder / "train/r_2.png")
        if status:
            assert read_posed(folder).cameras.size[0].tolist() == [12, 12]
        else:
            with pytest.raises(DataError, match=r"r_2\.png is 12x12 .* 5 of the 6 images"):
                read_posed(folder)


def test_an_image_that_is_in_two_splits(folder):
    train, test = (folder / f"transforms_{name}.json" for name in ("train", "test"))
    test.write_text(train.read_text())
    with pytest.raises(DataError, match=r"names train/r_0\.png 2 times"):
        read_posed(folder)


def test_without_test_views_there_is_a_warning(folder):
    (folder / "transforms_test.json").unlink()
    scene = load_scene(folder)
    assert scene.warnings == ("There are no test views: a run cannot be evaluated.",)
    with pytest.raises(InputError, match="has no views in its split 'test'; it has some in: train"):
        scene.views("test")


def test_without_training_views_there_is_nothing_to_do(folder):
    (folder / "transforms_train.json").unlink()
    with pytest.raises(InputError, match=r"Nothing in .* is a known scene format"):
        read_posed(folder)
    with pytest.raises(InputError, match="is not of the format blender: there is no"):
        read_posed(folder, "blender")


def test_other_cameras_cannot_be_written(small_scene, tmp_path):
    from dataclasses import replace

    moved = replace(small_scene.cameras, center=small_scene.cameras.center + 1)
    with pytest.raises(InputError, match="The Blender format holds pinhole cameras"):
        blender.write(replace(small_scene, cameras=moved), tmp_path)
