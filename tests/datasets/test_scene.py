"""A scene is one that can be computed with, and its fingerprint depends on nothing but what it is."""

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from polyfield.datasets.formats import llff
from polyfield.datasets.load import load_scene
from polyfield.datasets.scene import Scene, fingerprint
from polyfield.datasets.wishes import positive_seconds
from polyfield.errors import DataError, InputError


def box(low: float, high: float) -> torch.Tensor:
    return torch.tensor([[low] * 3, [high] * 3], dtype=torch.float64)


@pytest.mark.parametrize(
    "corners",
    [
        (-1e308, 1e308),
        (-math.inf, math.inf),
        (math.nan, 1.0),
        (-1e10, 1e10),
        (1.0, 1.0),
        (1.0, -1.0),
        (0.0, 1e-300),
        (5e8, 5e8 + 3),
    ],
)
def test_a_region_beyond_float32_is_refused(small_scene: Scene, corners: tuple) -> None:
    with pytest.raises(DataError, match="is too large, too small or too far from the origin"):
        replace(small_scene, box=box(*corners))


@pytest.mark.parametrize("corners", [(-1e9, 1e9), (0.0, 1e-8), (1e4, 1e4 + 1)])
def test_a_region_within_float32_is_taken(small_scene: Scene, corners: tuple) -> None:
    assert torch.equal(replace(small_scene, box=box(*corners)).box, box(*corners))


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e10])
def test_a_pose_beyond_float32_is_refused(small_scene: Scene, value: float) -> None:
    poses = small_scene.cameras.world_from_camera.clone()
    poses[3, 1, 3] = value
    with pytest.raises(DataError, match="Move or rescale the poses"):
        replace(small_scene, cameras=replace(small_scene.cameras, world_from_camera=poses))


@pytest.mark.parametrize(("near", "far"), [(-1, 2), (2, 1), (0, 0), (0, math.inf), (math.nan, 1)])
def test_distances_that_cannot_be_are_refused(small_scene: Scene, near: float, far: float) -> None:
    with pytest.raises(DataError, match="must have 0 <= near < far, both finite"):
        replace(small_scene, near=near, far=far)


def test_the_name_of_a_picture_is_any_bytes(small_scene: Scene, tmp_path: Path) -> None:
    llff.write(small_scene, tmp_path)
    pictures = sorted((tmp_path / "images").iterdir())
    before = load_scene(tmp_path)
    try:
        pictures[-1].rename(os.fsdecode(os.fsencode(pictures[-1].with_suffix("")) + b"\xff.png"))
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    after = load_scene(tmp_path)
    assert after.names[-1].endswith("\udcff.png")
    assert after.names[:-1] == before.names[:-1]
    assert after.fingerprint != before.fingerprint
    with Image.open(after.path / after.names[-1]) as image:
        assert image.size == (24, 24)


def test_a_fingerprint_of_older_runs_is_found_again(small_scene: Scene) -> None:
    """As it was before names of any bytes: a run that is resumed compares it with what it noted."""
    names = ("a.png", "\u00e4/\u65e5\u672c.png", *map(str, range(7)))
    found = fingerprint(names, small_scene.cameras, (b"pixels",) * 9)
    assert found == "b6b6710305326233-c87963603d2283eb"


@pytest.mark.parametrize(
    "value", [0, -1, math.inf, math.nan, pytest.param(10**400, id="1e400"), True, "60"]
)
def test_what_is_no_time(value: object) -> None:
    assert positive_seconds(10**300, "The budget") == 1e300
    with pytest.raises(InputError, match="The budget must be above 0 seconds and finite"):
        positive_seconds(value, "The budget")
