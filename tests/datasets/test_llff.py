"""LLFF scenes: round trip, the real fern, and broken arrays."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from polyfield.datasets.formats import colmap, llff
from polyfield.datasets.lenses import Lens
from polyfield.datasets.load import load_scene, read_posed
from polyfield.datasets.scene import Scene
from polyfield.errors import DataError, InputError


@pytest.fixture
def folder(small_scene: Scene, tmp_path: Path) -> Path:
    llff.write(small_scene, tmp_path)
    return tmp_path


def rows(folder: Path) -> np.ndarray:
    return np.load(folder / "poses_bounds.npy")


def spoil(folder: Path, column: int, value: float) -> None:
    array = rows(folder)
    array[1, column] = value
    np.save(folder / "poses_bounds.npy", array)


def test_a_scene_survives_being_written(small_scene, folder):
    scene = load_scene(folder)
    assert scene.format == "llff"
    # The polar iteration moves the last bits.
    torch.testing.assert_close(
        scene.cameras.world_from_camera,
        small_scene.cameras.world_from_camera,
        atol=1e-14,
        rtol=0,
    )
    assert torch.equal(scene.cameras.focal, small_scene.cameras.focal)
    assert torch.equal(scene.cameras.center, small_scene.cameras.center)
    assert scene.cameras.straight
    for i in range(len(scene.names)):  # 8 bits of straight colour and of alpha, half a step each
        torch.testing.assert_close(
            scene.images.image(i), small_scene.images.image(i), atol=1.01 / 255, rtol=0
        )


@pytest.mark.real_data
def test_fern(data_dir):
    folder = data_dir / "scenes" / "llff-fern"
    scene = load_scene(folder)
    assert scene.cameras.size.unique(dim=0).tolist() == [[504, 378]]
    assert scene.cameras.focal[0].tolist() == pytest.approx([3260.5263 / 8] * 2, abs=1e-4)
    assert (
        scene.cameras.lenses[0].model == "SIMPLE_RADIAL"
    )  # the file beside it knows of distortion
    assert scene.names[0] == "images_8/image000.png"
    assert [len(scene.split[name]) for name in ("train", "val", "test")] == [17, 0, 3]
    assert scene.forward_facing
    assert scene.unbounded
    # Points and bounds are of one world: the depths of all points span the first view's bounds, to
    # within a twentieth (the bounds are of the points that each view observed, which is not known).
    depth = (scene.points - scene.cameras.positions[0]) @ scene.cameras.forward[0]
    near, far = depth.quantile(torch.tensor([0.001, 0.999], dtype=torch.float64)).tolist()
    assert [near, far] == pytest.approx(rows(folder)[0, 15:].tolist(), rel=0.05)
    pixels = scene.cameras.project(scene.points, torch.zeros(len(scene.points), dtype=torch.long))
    seen = ((pixels > 0) & (pixels < scene.cameras.size[0])).all(1).double().mean()
    assert float(seen) > 0.95  # all look the same way, so nearly every point is in the first view


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, np.nan, "row 1 has a number that is not finite"),
        (4, 0, "the image size of images/image0001.png is not usable"),
        (4, -24, "the image size of images/image0001.png is not usable"),
        (4, 48, "images/image0001.png is 24x24 pixels, but poses_bounds.npy declares 24x48"),
        (14, 0, "the focal length of images/image0001.png must be a number above 0"),
        (14, 1e300, "a height, width or focal length is not usable"),
        (15, 0, "near and far must be 0 < near < far for every image"),
        (16, 1e-9, "near and far must be 0 < near < far for every image"),
        (0, 9.0, "the pose of images/image0001.png"),
    ],
)
def test_a_broken_row_is_one_sentence(folder, column, value, message):
    spoil(folder, column, value)
    with pytest.raises(DataError) as raised:
        read_posed(folder)
    assert message in str(raised.value)


def test_a_mirrored_pose(folder):
    array = rows(folder)
    array[:, [0, 5, 10]] *= -1
    np.save(folder / "poses_bounds.npy", array)
    with pytest.raises(DataError, match="is left-handed"):
        read_posed(folder)


@pytest.mark.parametrize(
    "array",
    [np.zeros((9, 16)), np.zeros((0, 17)), np.zeros(17), np.zeros((9, 17), complex), np.zeros(())],
)
def test_arrays_of_another_shape(folder, array):
    np.save(folder / "poses_bounds.npy", array)
    with pytest.raises(DataError, match=r"must have 17 numbers for each image|must hold one array"):
        read_posed(folder)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was loaded",))


def test_pickles_are_never_loaded(folder):
    file = folder / "poses_bounds.npy"
    np.save(file, np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="pickles are never read"):
        read_posed(folder)
    file.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="pickles are never read"):
        read_posed(folder)


def test_a_file_cut_off_at_any_byte(folder):
    file = folder / "poses_bounds.npy"
    data = file.read_bytes()
    for length in range(len(data)):
        file.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"poses_bounds\.npy"):
            read_posed(folder)


def test_a_header_that_numpy_trips_over(folder):
    file = folder / "poses_bounds.npy"
    data = file.read_bytes()
    file.write_bytes(data.replace(b"'shape': (", b"'shape':(("))
    with pytest.raises(DataError, match="is not an array of numbers in NumPy's format"):
        read_posed(folder)


def test_another_number_of_images(folder):
    Image.new("RGB", (24, 24)).save(folder / "images" / "more.png")
    with pytest.raises(DataError) as raised:
        read_posed(folder)
    assert str(raised.value) == (
        f"{folder / 'poses_bounds.npy'} has 9 poses, but no folder of as many images is there"
        " (images has 10)."
    )


def test_distortion_comes_from_colmap_only_where_the_cameras_are_the_same(small_scene, folder):
    one = replace(
        small_scene,
        cameras=replace(small_scene.cameras.select([0]), lenses=(Lens("SIMPLE_RADIAL", (0.02,)),)),
        names=small_scene.names[:1],
    )
    colmap.write(one, folder / "other")
    (folder / "other" / "sparse").rename(folder / "sparse")
    (folder / "sparse" / "0" / "images.bin").unlink()
    posed = read_posed(folder)
    assert set(posed.cameras.lenses) == {Lens("SIMPLE_RADIAL", (0.02,))}
    assert "Lens distortion was taken from sparse/0/cameras.bin." in posed.notes
    array = rows(folder)
    array[:, 14] *= 1.01
    np.save(folder / "poses_bounds.npy", array)
    assert read_posed(folder).cameras.straight


def test_other_cameras_cannot_be_written(small_scene, tmp_path):
    moved = replace(small_scene.cameras, center=small_scene.cameras.center + 1)
    with pytest.raises(InputError, match="The LLFF format holds centred pinhole cameras"):
        llff.write(replace(small_scene, cameras=moved), tmp_path)
