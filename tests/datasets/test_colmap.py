"""COLMAP scenes: round trips, COLMAP's own library as the oracle, the real cup, and broken files."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from polyfield.datasets.formats import colmap
from polyfield.datasets.formats.colmap_files import read_cameras, read_images, read_points3d
from polyfield.datasets.lenses import Lens
from polyfield.datasets.load import load_scene, read_posed
from polyfield.datasets.scene import Scene
from polyfield.errors import DataError, InputError

LENSES = (
    Lens(),
    Lens("SIMPLE_RADIAL", (0.01,)),
    Lens("OPENCV", (0.05, -0.02, 0.001, 0.002)),
    Lens("OPENCV_FISHEYE", (0.05, -0.02, 0.001, 0.002)),
    Lens("THIN_PRISM_FISHEYE", (0.05, -0.01, 0.001, -0.002, 0.003, -0.001, 0.001, 0.002)),
    Lens("FOV", (0.5,)),
    Lens("FULL_OPENCV", (0.1, -0.05, 0.001, -0.002, 0.01, 0.02, -0.01, 0.003)),
    Lens("EUCM", (0.6, 1.1)),
    Lens("SIMPLE_PINHOLE"),
)


@pytest.fixture(scope="module")
def varied(small_scene: Scene) -> Scene:
    """A scene with another lens in every view, and points."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(20, 3, generator=generator, dtype=torch.float64) - 0.5
    return replace(
        small_scene,
        cameras=replace(small_scene.cameras, lenses=LENSES),
        points=points,
        point_colors=torch.randint(0, 256, (20, 3), generator=generator, dtype=torch.uint8),
    )


@pytest.fixture(params=[".bin", ".txt"])
def folder(request: pytest.FixtureRequest, varied: Scene, tmp_path: Path) -> Path:
    colmap.write(varied, tmp_path, request.param)
    return tmp_path


def test_a_scene_survives_being_written(varied, folder):
    scene = load_scene(folder)
    assert scene.format == "colmap"
    # A quaternion and its inverse rotation cost a few last bits.
    torch.testing.assert_close(
        scene.cameras.world_from_camera, varied.cameras.world_from_camera, atol=1e-14, rtol=0
    )
    assert torch.equal(scene.cameras.focal, varied.cameras.focal)
    assert torch.equal(scene.cameras.center, varied.cameras.center)
    assert scene.cameras.lenses == varied.cameras.lenses
    assert torch.equal(scene.points, varied.points)
    assert torch.equal(scene.point_colors, varied.point_colors)
    for i in range(len(scene.names)):  # 8 bits of straight colour and of alpha, half a step each
        torch.testing.assert_close(
            scene.images.image(i), varied.images.image(i), atol=1.01 / 255, rtol=0
        )


def test_colmap_reads_what_was_written(varied, folder):
    pycolmap = pytest.importorskip("pycolmap", reason="the extra 'oracles' is not installed")
    theirs = pycolmap.Reconstruction(str(folder / "sparse" / "0"))
    assert theirs.num_images() == len(varied.names)
    assert theirs.num_points3D() == 20
    for i, image in theirs.images.items():
        center = image.projection_center()
        assert center == pytest.approx(varied.cameras.positions[i - 1].tolist(), abs=1e-12)
        pixel = varied.cameras.project(torch.zeros(1, 3), torch.tensor([i - 1]))[0]
        assert image.project_point(np.zeros(3)) == pytest.approx(pixel.tolist(), abs=1e-9)


@pytest.mark.parametrize("ending", [".bin", ".txt"])
def test_what_colmap_wrote_is_read(varied, tmp_path, ending):
    pycolmap = pytest.importorskip("pycolmap", reason="the extra 'oracles' is not installed")
    colmap.write(varied, tmp_path)
    model = tmp_path / "sparse" / "0"
    before = read_posed(tmp_path)
    theirs = pycolmap.Reconstruction(str(model))
    for file in model.iterdir():
        file.unlink()
    (theirs.write_binary if ending == ".bin" else theirs.write_text)(str(model))
    assert (model / f"rigs{ending}").is_file()  # newer files beside ours are no hindrance
    posed = read_posed(tmp_path)
    # COLMAP's text has 17 digits, its quaternions a last bit of their own.
    torch.testing.assert_close(
        posed.cameras.world_from_camera, before.cameras.world_from_camera, atol=1e-13, rtol=0
    )
    assert torch.equal(posed.cameras.focal, before.cameras.focal)
    assert posed.cameras.lenses == before.cameras.lenses
    assert sorted(posed.points.tolist()) == sorted(before.points.tolist())


@pytest.mark.real_data
def test_the_cups_points_reproject_onto_their_observations(data_dir):
    folder = data_dir / "scenes" / "colmap-cup"
    posed = read_posed(folder)
    assert len(posed.names) == 77
    assert len(posed.points) == 9262
    images = {image.name: image for image in read_images(folder / "sparse/0/images.bin")}
    points = read_points3d(folder / "sparse/0/points3D.bin")
    place = {int(number): i for i, number in enumerate(points.ids)}
    errors = []
    for i, name in enumerate(posed.names):
        image = images[name.removeprefix("images/")]
        known = [at for at, number in enumerate(image.points) if int(number) in place]
        xyz = points.xyz[[place[int(image.points[at])] for at in known]]
        pixels = posed.cameras.project(torch.from_numpy(xyz), torch.full((len(known),), i))
        errors.append((pixels - torch.from_numpy(image.pixels[known])).norm(dim=1))
    error = torch.cat(errors)
    assert len(error) == 57847
    assert float(error.median()) == pytest.approx(0.46, abs=0.005)  # as the data's page says


@pytest.mark.real_data
def test_the_cups_points_are_the_same_in_its_ply(data_dir):
    from polyfield.datasets.points import read_points

    model = data_dir / "scenes" / "colmap-cup" / "sparse" / "0"
    positions, _ = read_points(model / "points3D.ply")
    ours = torch.from_numpy(read_points3d(model / "points3D.bin").xyz)
    # Its positions are float32.
    torch.testing.assert_close(positions, ours, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_a_file_cut_off_at_any_byte_is_one_sentence(folder, name):
    ending = ".bin" if (folder / "sparse/0/cameras.bin").is_file() else ".txt"
    file = folder / "sparse" / "0" / f"{name}{ending}"
    data = file.read_bytes()
    read = {"cameras": read_cameras, "images": read_images, "points3D": read_points3d}[name]
    read(file)
    for length in range(len(data)):
        file.write_bytes(data[:length])
        with pytest.raises(DataError) as raised:
            read(file)
        assert str(file) in str(raised.value)
        assert "\n" not in str(raised.value)


def test_a_broken_model_is_not_passed_over_for_another_format(varied, folder):
    (folder / "poses_bounds.npy").write_bytes(b"")
    file = next((folder / "sparse" / "0").glob("images.*"))
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(DataError, match="cut off"):
        read_posed(folder)


def test_bytes_after_the_end(folder):
    file = next((folder / "sparse" / "0").glob("cameras.*"))
    file.write_bytes(file.read_bytes() + b"abc\n")
    with pytest.raises(DataError, match=r"4 bytes more than its count says|cut off"):
        read_posed(folder)


def test_the_largest_model_is_taken(varied, small_scene, folder):
    few = replace(
        varied,
        cameras=varied.cameras.select([0, 1]),
        names=varied.names[:2],
    )
    ending = next((folder / "sparse" / "0").glob("cameras.*")).suffix
    (folder / "sparse" / "0").rename(folder / "sparse" / "1")
    colmap.write(few, folder, ending)
    posed = read_posed(folder)
    assert len(posed.names) == 9
    assert posed.reason == ("it has a COLMAP model in sparse/1, the largest of 2 models")


@pytest.mark.parametrize("place", ["sparse", "colmap/sparse/0", "."])
def test_models_in_other_places(folder, place):
    (folder / "sparse" / "0").rename(folder / "model")
    (folder / "sparse").rmdir()
    target = folder / place
    target.mkdir(parents=True, exist_ok=True)
    for file in (folder / "model").iterdir():
        file.rename(target / file.name)
    assert len(read_posed(folder).names) == 9


def test_missing_pictures_are_skipped_and_listed(folder):
    names = read_posed(folder).names
    (folder / names[4]).unlink()
    posed = read_posed(folder)
    assert posed.names == names[:4] + names[5:]
    assert posed.warnings == (
        f"1 registered images have no picture and are skipped: {names[4].removeprefix('images/')}.",
    )


def test_no_picture_at_all(folder):
    shutil.rmtree(folder / "images")
    with pytest.raises(InputError, match=r"Nothing in .* is a known scene format"):
        read_posed(folder)
    with pytest.raises(InputError, match="is not of the format colmap"):
        read_posed(folder, "colmap")


def test_smaller_pictures_of_another_kind(folder):
    for k, size in ((2, 12), (4, 6)):
        reduced = folder / f"images_{k}"
        reduced.mkdir()
        for file in sorted((folder / "images").iterdir())[: 9 if k == 4 else 8]:
            with Image.open(file) as image:
                image.convert("RGB").resize((size, size)).save(reduced / f"{file.stem}.jpg")
    full = read_posed(folder).cameras
    shutil.rmtree(folder / "images")
    posed = read_posed(folder)  # images_2 lacks one, so images_4 is the largest that is complete
    assert posed.cameras.size[0].tolist() == [6, 6]
    torch.testing.assert_close(posed.cameras.focal, full.focal / 4, atol=0, rtol=1e-15)
    assert posed.notes[0] == "Pictures were taken from images_4/."


def test_masks_beside_the_pictures(folder):
    name = read_posed(folder).names[0].removeprefix("images/")
    (folder / "masks").mkdir()
    Image.new("L", (24, 24), 255).save(folder / "masks" / f"{name}.png")
    posed = read_posed(folder)
    assert posed.masks[0] == folder / "masks" / f"{name}.png"
    assert posed.warnings == ("8 of 9 images have no mask in masks/.",)


def test_a_picture_of_another_shape(folder):
    name = read_posed(folder).names[0]
    Image.new("RGB", (24, 18)).save(folder / name)
    with pytest.raises(DataError, match="is 24x18 pixels, but sparse/0 declares 24x24"):
        read_posed(folder)


def test_one_image_alone_is_reduced(folder):
    names = read_posed(folder).names
    Image.new("RGB", (12, 12)).save(folder / names[3])
    with pytest.raises(DataError) as raised:
        read_posed(folder)
    assert str(raised.value) == (
        f"{names[3]} is 12x12 pixels where sparse/0 declares 24x24, a scale of 0.5, but most images have"
        " a scale of 1 (1 of 9 differ); all images must be scaled alike."
    )
    for name in names:  # all of them may be reduced
        Image.new("RGB", (12, 12)).save(folder / name)
    assert read_posed(folder).cameras.size.tolist() == [[12, 12]] * 9


TEXT = [
    ("cameras.txt", "PINHOLE", "PINHOLES", "unknown model 'PINHOLES'"),
    ("cameras.txt", " 24 24 ", " 24 0 ", "the image size of images/view_0_0000.png is not usable"),
    ("cameras.txt", " 24 24 ", " 24 x ", "'x' where a whole number should be"),
    ("cameras.txt", "PINHOLE 24 24 32", "PINHOLE 24 24 0 32", "must have 4 parameters"),
    ("cameras.txt", "cameras: 9", "cameras: 10", "announces 10 cameras, but has 9"),
    ("cameras.txt", "\n2 SIMPLE_RADIAL", "\n1 SIMPLE_RADIAL", "has two cameras of number 1"),
    ("cameras.txt", "\n1 PINHOLE", "\n77 PINHOLE", "uses the camera 1, which is not there"),
    ("images.txt", "view_0_0000.png", "../view_0_0000.png", "leaves the folder"),
    ("images.txt", "view_0_0000.png", "/view_0_0000.png", "is absolute"),
    ("images.txt", "view_1_0001.png", "view_0_0000.png", "names view_0_0000.png 2 times"),
    ("images.txt", "\n2 ", "\n1 ", "has two images of one number"),
    ("images.txt", "\n1 0.", "\n1 nan ", "where a whole number should be"),
    ("images.txt", "\n1 0.", "\n--1 0.", "'--1' where a whole number should be"),
    ("cameras.txt", "\n1 PINHOLE", "\n--1 PINHOLE", "'--1' where a whole number should be"),
    ("images.txt", "\n1 0.", "\n1 7.", "is not a unit quaternion"),
    ("points3D.txt", "\n1 ", "\n-1 ", "has a point with a number that is not usable"),
    ("points3D.txt", "\n1 ", "\n1 nan ", "is cut off or broken"),
    ("points3D.txt", "\n2 ", "\n2 x", "is not a number"),
]


@pytest.mark.parametrize(("file", "old", "new", "message"), TEXT)
def test_broken_text_is_one_sentence(varied, tmp_path, file, old, new, message):
    colmap.write(varied, tmp_path, ".txt")
    path = tmp_path / "sparse" / "0" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError) as raised:
        read_posed(tmp_path)
    assert message in str(raised.value)


@pytest.mark.parametrize("value", ["inf", "-inf", "1e300", "256", "-1", "0.5"])
def test_what_is_no_colour_is_one_sentence(varied, tmp_path, value):
    colmap.write(varied, tmp_path, ".txt")
    path = tmp_path / "sparse" / "0" / "points3D.txt"
    words = path.read_text().split("\n")
    first = words[1].split(" ")
    path.write_text("\n".join([words[0], " ".join([*first[:4], value, *first[5:]]), *words[2:]]))
    with pytest.raises(DataError, match="has a colour that is not between 0 and 255"):
        read_points3d(path)


def test_quaternions_of_all_kinds_of_turns():
    """Half turns are where formulas by a single component break down."""
    turns = np.array(
        [
            np.eye(3),
            np.diag([1.0, -1, -1]),
            np.diag([-1.0, 1, -1]),
            np.diag([-1.0, -1, 1]),
            [[0, 0, 1.0], [1, 0, 0], [0, 1, 0]],
            [[-1 / 3, 2 / 3, 2 / 3], [2 / 3, -1 / 3, 2 / 3], [2 / 3, 2 / 3, -1 / 3]],
        ]
    )
    quaternions = colmap.quaternion_from_rotation(turns)
    np.testing.assert_allclose(np.linalg.norm(quaternions, axis=1), 1, atol=1e-15)
    np.testing.assert_allclose(colmap.rotation_from_quaternion(quaternions), turns, atol=1e-15)
