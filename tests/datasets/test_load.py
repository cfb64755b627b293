"""Choosing a format, splitting, and what does not depend on the format."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from polyfield.datasets import load
from polyfield.datasets.formats import blender, colmap, llff, transforms
from polyfield.datasets.images import Images
from polyfield.datasets.load import load_scene, read_posed, scene_fingerprint, split_by_name
from polyfield.datasets.region import choose_region
from polyfield.datasets.scene import Scene, fingerprint_difference
from polyfield.errors import DataError, InputError

WRITERS = {"blender": blender, "transforms": transforms, "colmap": colmap, "llff": llff}


def test_the_order_of_formats(small_scene, tmp_path):
    """All formats in one folder: the first is taken, then, as each goes, the next."""
    for module in WRITERS.values():
        module.write(small_scene, tmp_path)
    for file in (tmp_path / "images").iterdir():  # LLFF counts images; keep its own
        if not file.name.startswith("view"):
            shutil.move(file, tmp_path / file.name)
    found = []
    for name in ("transforms_train.json", "transforms.json", "sparse/0/cameras.bin"):
        posed = read_posed(tmp_path)
        found.append((posed.format, posed.reason))
        (tmp_path / name).unlink()
    posed = read_posed(tmp_path)
    found.append((posed.format, posed.reason))
    assert found == [
        ("blender", "it has a transforms_train.json"),
        ("transforms", "it has a transforms.json"),
        ("colmap", "it has a COLMAP model in sparse/0"),
        ("llff", "it has a poses_bounds.npy"),
    ]


def test_a_format_can_be_asked_for(small_scene, tmp_path):
    blender.write(small_scene, tmp_path)
    transforms.write(small_scene, tmp_path)
    assert load_scene(tmp_path, format="transforms").format == "transforms"


@pytest.mark.parametrize("name", WRITERS)
def test_downscaling_makes_cameras_and_images_smaller_alike(small_scene, tmp_path, name):
    WRITERS[name].write(small_scene, tmp_path)
    full, small = load_scene(tmp_path), load_scene(tmp_path, downscale=3)
    assert torch.equal(small.cameras.size, small.images.sizes)
    assert torch.equal(small.cameras.focal, full.cameras.focal / 3)
    assert small.fingerprint == full.fingerprint


@pytest.mark.parametrize("name", WRITERS)
def test_views_agree_about_the_region(small_scene, tmp_path, name):
    """Every camera looks into the box, and what is known to be there lies between near and far."""
    WRITERS[name].write(small_scene, tmp_path)
    scene = load_scene(tmp_path)
    corners = torch.cartesian_prod(*scene.box.T)
    middle = scene.box.mean(0, keepdim=True)
    ids = torch.arange(len(scene.names))
    pixels = scene.cameras.project(middle.expand(len(ids), 3), ids)
    assert bool(((pixels > 0) & (pixels < scene.cameras.size)).all())
    distance = (corners[:, None] - scene.cameras.positions).norm(dim=2)
    assert bool((distance <= scene.far * (1 + 1e-12)).all())
    # The built-in scene's things lie in the ball of radius 0.9 about the origin.
    assert scene.near <= float(scene.cameras.positions.norm(dim=1).min()) - 0.9
    assert bool((scene.box[0] <= -0.9).all())
    assert bool((scene.box[1] >= 0.9).all())


def test_the_fingerprint_stays_when_the_folder_moves(small_scene, tmp_path):
    colmap.write(small_scene, tmp_path / "here")
    before = load_scene(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    after = load_scene(tmp_path / "there")
    assert after.fingerprint == before.fingerprint
    assert (before.name, after.name) == ("here", "there")


def test_the_fingerprint_changes_with_poses_names_and_lenses(small_scene, tmp_path):
    prints = set()
    moved = small_scene.cameras.world_from_camera.clone()
    moved[3, 0, 3] += 1e-3
    for i, scene in enumerate(
        (
            small_scene,
            replace(small_scene, cameras=replace(small_scene.cameras, world_from_camera=moved)),
            replace(small_scene, names=("other.png", *small_scene.names[1:])),
            replace(
                small_scene,
                cameras=replace(small_scene.cameras, focal=small_scene.cameras.focal + 0.01),
            ),
        )
    ):
        transforms.write(scene, tmp_path / str(i))
        prints.add(load_scene(tmp_path / str(i)).fingerprint)
    assert len(prints) == 4


@pytest.mark.parametrize("size", [24, 400])  # hashed whole, and in pieces
def test_the_fingerprint_changes_with_one_pixel(small_scene, tmp_path, size):
    colmap.write(small_scene, tmp_path)
    file = sorted((tmp_path / "images").iterdir())[3]
    noise = np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8)
    prints = []
    for change in (0, 1, 0):
        noise[size // 2, size // 3, 1] ^= change
        Image.fromarray(noise).save(file)
        prints.append(Images.load([file]).digests())
        noise[size // 2, size // 3, 1] ^= change
    assert (file.stat().st_size > 1 << 18) == (size == 400)
    assert prints[0] == prints[2] != prints[1]


def test_the_fingerprint_knows_pixels_and_masks(small_scene, tmp_path):
    colmap.write(small_scene, tmp_path)
    before = load_scene(tmp_path).fingerprint
    file = sorted((tmp_path / "images").iterdir())[0]
    Image.open(file).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(file)
    turned = load_scene(tmp_path).fingerprint
    assert fingerprint_difference(before, turned) == "pixels of its images"
    (tmp_path / "masks").mkdir()
    Image.new("L", (24, 24), 255).save(tmp_path / "masks" / f"{file.name}.png")
    masked = load_scene(tmp_path).fingerprint
    assert fingerprint_difference(turned, masked) is not None
    assert scene_fingerprint(tmp_path) == masked
    # A run from before pixels were hashed knows the cameras alone.
    assert fingerprint_difference(before.partition("-")[0], turned) is None
    assert fingerprint_difference("0" * 16, turned) == "poses, names or sizes of its images"


def test_images_in_memory_are_told_apart():
    arrays = [np.full((20, 30, 3), value, np.uint8) for value in (1, 2)]
    one, two = Images.from_arrays(arrays).digests()
    assert one != two
    arrays[1][19, 29, 2] -= 1
    assert Images.from_arrays(arrays).digests()[1] not in (one, two)


def test_every_eighth_by_name_as_text():
    names = [f"{i}.jpg" for i in range(1, 21)]  # as text: 1, 10, 11, ..., 19, 2, 20, 3, ...
    split = split_by_name(names)
    assert [names[i] for i in split["test"]] == ["1.jpg", "17.jpg", "6.jpg"]
    assert sorted(split["test"] + split["train"]) == list(range(20))


@pytest.mark.parametrize("name", [None, "builtin"])
def test_the_builtin_scene_needs_no_folder(small_scene, monkeypatch, name):
    asked = []

    def played(downscale: int) -> Scene:  # the real one takes seconds to render
        asked.append(downscale)
        return small_scene

    monkeypatch.setattr("polyfield.datasets.builtin.builtin_scene", played)
    assert load_scene(name, downscale=2) is small_scene
    assert asked == [2]


def test_an_empty_folder(tmp_path):
    with pytest.raises(InputError) as raised:
        load_scene(tmp_path)
    assert str(raised.value) == f"The folder {tmp_path} is empty."


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("milk")
    with pytest.raises(InputError, match=r"Nothing in .* is a known scene format. Looked for"):
        load_scene(tmp_path)


def test_a_file_and_nothing(tmp_path):
    (tmp_path / "transforms.json").write_text("{}")
    with pytest.raises(InputError, match="is a file; a scene is a folder"):
        load_scene(tmp_path / "transforms.json")
    with pytest.raises(InputError, match=r"There is no scene .*: no such folder"):
        load_scene(tmp_path / "nowhere")


def test_an_unknown_format_and_a_wrong_number(tmp_path):
    with pytest.raises(InputError, match=r"there is no format 'colmop'. Did you mean 'colmap'"):
        load_scene(tmp_path, format="colmop")
    for settings, message in [
        ({"downscale": 0}, "--downscale must be a whole number >= 1, but is 0"),
        ({"downscale": 1.5}, "--downscale must be a whole number >= 1, but is 1.5"),
        ({"downscale": True}, "--downscale must be a whole number >= 1, but is True"),
        ({"threads": 0}, "--threads must be a whole number >= 1, but is 0"),
        ({"masks": "black"}, "masks must be 'ignore' or 'empty', but is 'black'"),
    ]:
        with pytest.raises(InputError, match=message):
            load_scene(tmp_path, **settings)
    with pytest.raises(InputError, match="--format llff is for scenes in folders"):
        load_scene("builtin", format="llff")
    with pytest.raises(InputError, match="The path of the scene is empty"):
        load_scene("")


def test_what_may_not_be_read_is_a_sentence(tmp_path, monkeypatch):
    """Root may read everything, so the refusal is played."""

    def refuse(self: Path) -> object:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError) as raised:
        load_scene(tmp_path)
    assert str(raised.value) == f"{tmp_path} cannot be read: Permission denied."


def test_transparent_images(small_scene, tmp_path):
    blender.write(small_scene, tmp_path)
    for file in tmp_path.glob("*/*.png"):
        Image.new("RGBA", (24, 24)).save(file)
    with pytest.raises(DataError, match="transparent"):
        load_scene(tmp_path)


def test_a_single_image_cannot_be_trained_on(small_scene, tmp_path):
    one = replace(small_scene, cameras=small_scene.cameras.select([0]), names=small_scene.names[:1])
    colmap.write(one, tmp_path)
    with pytest.raises(DataError, match="has 1 images, but none of them to train on"):
        load_scene(tmp_path)


def test_asking_for_a_split(small_scene):
    assert small_scene.views("test") == small_scene.split["test"]
    with pytest.raises(InputError, match=r"There is no split 'tests'. Did you mean 'test'"):
        small_scene.views("tests")


def test_every_format_says_what_it_misses():
    for name in load.FORMATS:
        assert load._format(name).MISSING.startswith("there is no")


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["blender-lego", "ngp-fox", "llff-fern", "colmap-cup"])
def test_real_cameras_look_into_their_regions(data_dir, name):
    posed = read_posed(data_dir / "scenes" / name)
    region = choose_region(posed, has_alpha=name == "blender-lego")
    ids = torch.arange(len(posed.names))
    pixels = posed.cameras.size.double() / 2 + 0.25
    origins, directions = (part.double() for part in posed.cameras.rays(ids, pixels))
    low, high = ((side - origins) / directions for side in region.box)
    into, out = torch.minimum(low, high).amax(1), torch.maximum(low, high).amin(1)
    assert bool((into.clamp(min=0) < out).all())
    assert bool((out > region.near).all())
    assert bool((into < region.far).all())
    assert region.unbounded == (name != "blender-lego")
    assert region.forward_facing == (name == "llff-fern")
