"""Scenes of instant-ngp and nerfstudio: round trip, the real fox, and all the optional keys."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from polyfield.datasets.formats import transforms
from polyfield.datasets.lenses import Lens
from polyfield.datasets.load import load_scene, read_posed
from polyfield.datasets.scene import Scene
from polyfield.errors import DataError, InputError


@pytest.fixture
def folder(small_scene: Scene, tmp_path: Path) -> Path:
    transforms.write(small_scene, tmp_path)
    return tmp_path


def change(folder: Path, frame: dict | None = None, **changes: object) -> None:
    """Change keys of the file, and of its first frame; None removes a key."""
    file = folder / "transforms.json"
    data = json.loads(file.read_text())
    for target, values in ((data, changes), (data["frames"][0], frame or {})):
        for key, value in values.items():
            if value is None:
                target.pop(key, None)
            else:
                target[key] = value
    file.write_text(json.dumps(data))


def without_split(folder: Path) -> None:
    change(folder, train_filenames=None, val_filenames=None, test_filenames=None)


@pytest.mark.parametrize(
    "lens",
    [
        Lens(),
        Lens("OPENCV", (0.05, -0.02, 0.001, 0.002)),
        Lens("OPENCV_FISHEYE", (0.05, -0.02, 0.001, 0.002)),
    ],
)
def test_a_scene_survives_being_written(small_scene, tmp_path, lens):
    count = len(small_scene.names)
    generator = torch.Generator().manual_seed(0)
    cameras = replace(
        small_scene.cameras,
        lenses=(lens,) * count,
        focal=small_scene.cameras.focal * (1 + torch.rand(count, 2, generator=generator)),
        center=small_scene.cameras.center + torch.rand(count, 2, generator=generator),
    )
    points = torch.rand(5, 3, generator=generator, dtype=torch.float64)
    colors = torch.arange(15, dtype=torch.uint8).reshape(5, 3)
    transforms.write(
        replace(small_scene, cameras=cameras, points=points, point_colors=colors), tmp_path
    )
    scene = load_scene(tmp_path)
    assert scene.format == "transforms"
    assert scene.split == dict(small_scene.split)
    # The polar iteration moves the last bits; all else is kept as it is.
    torch.testing.assert_close(
        scene.cameras.world_from_camera, cameras.world_from_camera, atol=1e-14, rtol=0
    )
    assert torch.equal(scene.cameras.focal, cameras.focal)
    assert torch.equal(scene.cameras.center, cameras.center)
    assert scene.cameras.lenses == cameras.lenses
    assert torch.equal(scene.points, points)
    assert torch.equal(scene.point_colors, colors)


@pytest.mark.real_data
def test_fox(data_dir):
    posed = read_posed(data_dir / "scenes" / "ngp-fox")
    present = json.loads((data_dir / "scenes" / "ngp-fox" / "transforms_present.json").read_text())
    assert list(posed.names) == [frame["file_path"] for frame in present["frames"]]
    assert posed.cameras.lenses[0] == Lens(
        "OPENCV", (0.0578421, -0.0805099, -0.000980296, 0.00015575)
    )
    assert posed.cameras.focal[0].tolist() == [1375.52, 1374.49]
    assert posed.cube == ((-0.5 / 0.33,) * 3, (0.5 / 0.33,) * 3)
    assert posed.cube_reach == 4
    (warning,) = posed.warnings
    assert warning.startswith("17 frames of transforms.json have no image and are skipped:")
    assert "images/0005.jpg" in warning
    assert "images/0113.jpg" in warning
    # Every camera sees the fox, which is at the origin.
    pixels = posed.cameras.project(torch.zeros(50, 3), torch.arange(50))
    assert bool(((pixels > 0) & (pixels < posed.cameras.size)).all())


@pytest.mark.parametrize(
    "changes",
    [{"scale": 1e-308}, {"scale": 1e308}, {"offset": [1e300] * 3}, {"offset": [-1e8] * 3}],
)
def test_a_declared_cube_beyond_float32_is_refused(folder, changes):
    change(folder, **changes)
    with pytest.raises(DataError, match="mend the region if the files declare one"):
        load_scene(folder)


def test_a_name_that_no_file_has_is_refused(folder):
    change(folder, frame={"file_path": "images/\ud800.png"})
    with pytest.raises(DataError, match=r"'images/.ud800.png' cannot be the name of a file"):
        load_scene(folder)
    change(folder, frame={"file_path": "images/\udcff.png"})  # the byte ff: a name, of no file here
    without_split(folder)
    assert len(load_scene(folder).names) == 8


def test_missing_images_are_skipped_and_listed(folder):
    without_split(folder)
    scene = load_scene(folder)
    for name in scene.names[2:4]:
        (folder / name).unlink()
    fewer = load_scene(folder)
    assert fewer.names == (*scene.names[:2], *scene.names[4:])
    assert fewer.warnings == (
        "2 frames of transforms.json have no image and are skipped: "
        f"{scene.names[2]}, {scene.names[3]}.",
    )
    # Held out by name among those that exist.
    order = sorted(range(len(fewer.names)), key=lambda i: fewer.names[i])
    assert fewer.split["test"] == tuple(order[::8])


def test_no_image_at_all(folder):
    for file in (folder / "images").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"None of the 9 images that .* names exists; the first is"):
        read_posed(folder)


def test_smaller_images_in_another_folder(folder):
    (folder / "images").rename(folder / "images_4")
    for file in (folder / "images_4").iterdir():
        with Image.open(file) as image:
            small = image.resize((6, 6))
        small.save(file)
    full = json.loads((folder / "transforms.json").read_text())["frames"][0]["fl_x"]
    posed = read_posed(folder)
    assert posed.names[0].startswith("images_4/")
    assert posed.cameras.size[0].tolist() == [6, 6]
    assert posed.cameras.focal[0, 0].item() == pytest.approx(full / 4, rel=1e-15)
    assert posed.notes == (
        "There is no images/ folder, so images_4/ was taken.",
        "Intrinsics were scaled from 24x24 to the images' 6x6 pixels.",
    )


def test_intrinsics_of_a_frame_go_before_the_files(folder):
    for key in ("fl_x", "fl_y", "cx", "cy", "camera_model"):
        change(folder, {key: None})
    change(folder, {"fl_x": 31.0, "k1": 0.25}, fl_x=99.0, fl_y=32.0, p2=0.125)
    cameras = read_posed(folder).cameras
    assert cameras.focal[0].tolist() == [31.0, 32.0]
    assert cameras.center[0].tolist() == [12.0, 12.0]
    assert cameras.lenses[0] == Lens("OPENCV", (0.25, 0.0, 0.0, 0.125))


@pytest.mark.parametrize(
    ("frame", "focal"),
    [
        ({"camera_angle_x": math.pi / 2}, [12.0, 12.0]),
        ({"camera_angle_x": math.pi / 2, "camera_angle_y": 2 * math.atan(0.5)}, [12.0, 24.0]),
        ({"x_fov": 90.0}, [12.0, 12.0]),
        ({"fl_y": 5.0}, [5.0, 5.0]),
    ],
)
def test_focal_lengths_from_angles(folder, frame, focal):
    change(folder, {"fl_x": None, "fl_y": None, **frame})
    assert read_posed(folder).cameras.focal[0].tolist() == pytest.approx(focal, rel=1e-14)


@pytest.mark.parametrize(
    ("frame", "lens"),
    [
        ({"is_fisheye": True, "k1": 0.1, "k4": 0.2}, Lens("OPENCV_FISHEYE", (0.1, 0.0, 0.0, 0.2))),
        (
            {"camera_model": "OPENCV", "k3": 0.1},
            Lens("FULL_OPENCV", (0.0, 0.0, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0)),
        ),
        ({"camera_model": "PINHOLE"}, Lens()),
        ({}, Lens()),
    ],
)
def test_lens_models(folder, frame, lens):
    change(folder, {"camera_model": None})
    change(folder, frame)
    assert read_posed(folder).cameras.lenses[0] == lens


def test_no_focal_length(folder):
    change(folder, {"fl_x": None, "fl_y": None})
    with pytest.raises(DataError, match="there is no focal length"):
        read_posed(folder)


def test_the_cube_is_instant_ngps(folder):
    change(folder, scale=0.5, offset=[0.5, 0.25, 0.0], aabb_scale=2)
    scene = load_scene(folder)
    assert scene.box.tolist() == [[-1.0, -0.5, 0.0], [1.0, 1.5, 2.0]]
    assert scene.unbounded
    assert "cube that transforms.json declares" in scene.reason


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aabb_scale": 0}, "scale must be above 0 and aabb_scale between 1 and 128"),
        ({"aabb_scale": 1, "scale": -1}, "scale must be above 0"),
        ({"offset": [1, 2]}, "offset must be a list of 3 numbers"),
        ({"aabb_scale": "big"}, "aabb_scale must be a number, but is 'big'"),
        ({"train_filenames": "all"}, "train_filenames must be a list"),
        ({"train_filenames": ["images/other.png"]}, "has images/other.png, which no frame names"),
        ({"ply_file_path": "../x.ply"}, "leaves the folder"),
    ],
)
def test_broken_keys_are_one_sentence(folder, changes, message):
    change(folder, **changes)
    with pytest.raises(DataError) as raised:
        load_scene(folder)
    assert message in str(raised.value)


def test_a_split_of_ones_own(folder):
    names = read_posed(folder).names
    change(
        folder,
        train_filenames=[f"./{name}" for name in names[:3]],
        test_filenames=[names[5]],
        val_filenames=None,
    )
    scene = load_scene(folder)
    assert scene.split == {"train": (0, 1, 2), "val": (), "test": (5,)}
    assert scene.holdout == "the file's own split"
    assert scene.warnings == (
        "5 frames of transforms.json are in none of its splits and are not used.",
    )


def test_a_view_for_training_and_testing(folder):
    names = list(read_posed(folder).names)
    change(folder, train_filenames=names, test_filenames=names[:1], val_filenames=None)
    with pytest.raises(DataError, match="is in both train_filenames and test_filenames"):
        read_posed(folder)


def save_mask(folder: Path, size: tuple[int, int]) -> None:
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[:, : size[0] // 2] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    change(folder, {"mask_path": "mask.png"})


def test_a_mask_is_ignored_outside_or_empty(folder):
    save_mask(folder, (24, 24))
    ids = torch.zeros(2, dtype=torch.int64)
    x, y = torch.tensor([3, 20]), torch.tensor([12, 12])
    assert load_scene(folder).images.weights(ids, x, y).tolist() == [1.0, 0.0]
    empty = load_scene(folder, masks="empty").images
    assert empty.weights(ids, x, y) is None  # every pixel counts
    assert empty.gather(ids, x, y)[1].tolist() == [0.0] * 4


def test_a_mask_of_another_size_or_none(folder):
    save_mask(folder, (12, 24))
    with pytest.raises(DataError, match=r"mask of .* must be 24x24 pixels, but is 12x24"):
        load_scene(folder).images.image(0)
    (folder / "mask.png").unlink()
    with pytest.raises(DataError, match=r"the mask mask\.png does not exist"):
        load_scene(folder)


def test_an_image_turned_by_its_camera(small_scene, folder):
    name = read_posed(folder).names[0]
    Image.new("RGB", (24, 36)).save(folder / name)
    change(folder, {"w": 36, "h": 24})
    with pytest.raises(DataError) as raised:
        load_scene(folder)
    assert str(raised.value) == (
        f"{name} is 24x36 pixels, but transforms.json declares 36x24, which is of another shape."
        " It looks turned by 90 degrees; turning marks of the camera (EXIF) are ignored."
    )


def test_one_image_alone_is_reduced(folder):
    names = read_posed(folder).names
    Image.new("RGB", (12, 12)).save(folder / names[3])
    with pytest.raises(DataError) as raised:
        read_posed(folder)
    assert str(raised.value) == (
        f"{names[3]} is 12x12 pixels where transforms.json declares 24x24, a scale of 0.5, but most images have"
        " a scale of 1 (1 of 9 differ); all images must be scaled alike."
    )
    for name in names:  # all of them may be reduced
        Image.new("RGB", (12, 12)).save(folder / name)
    assert read_posed(folder).cameras.size.tolist() == [[12, 12]] * 9


def test_lenses_without_a_name_in_the_format_cannot_be_written(small_scene, tmp_path):
    cameras = replace(small_scene.cameras, lenses=(Lens("FOV", (0.5,)),) * len(small_scene.names))
    with pytest.raises(InputError, match="cannot hold the camera model FOV"):
        transforms.write(replace(small_scene, cameras=cameras), tmp_path)
