"""Real files, spoilt in every way that can be thought of: they are read, or refused in one sentence.

Nothing else may happen: no traceback, no hang, no camera that is not finite.
"""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyfield.datasets.formats import blender, colmap, llff, transforms
from polyfield.datasets.load import read_posed
from polyfield.datasets.points import read_points, write_points
from polyfield.datasets.region import choose_region
from polyfield.errors import InputError

# The fixtures only hold a folder; each example restores the file that it spoils.
spoiling = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# How to spoil bytes: cut off, turn bytes over, put something in, repeat a part.
cuts = st.tuples(st.just("cut"), st.floats(0, 1), st.just(b""))
flips = st.tuples(st.just("flip"), st.floats(0, 1), st.binary(min_size=1, max_size=8))
insertions = st.tuples(st.just("insert"), st.floats(0, 1), st.binary(min_size=1, max_size=8))
# Most of a file is numbers; its structure is at the front.
early_flips = st.tuples(st.just("flip"), st.floats(0, 0.01), st.binary(min_size=1, max_size=8))
damage = st.lists(cuts | flips | insertions | early_flips, min_size=1, max_size=3)


def spoilt(data: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for kind, share, extra in changes:
        at = int(share * len(data))
        if kind == "cut":
            data = data[:at]
        elif kind == "insert":
            data = data[:at] + extra + data[at:]
        else:
            data = data[:at] + extra + data[at + len(extra) :]
    return data


def refused(error: InputError) -> None:
    """Check that an error is one sentence."""
    message = str(error)
    assert message
    assert "\n" not in message
    assert message.endswith((".", "?"))


def read_or_refuse(folder: Path) -> None:
    """Read the scene; what comes must be sound, what is refused must be a sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning of NumPy's is a check that was forgotten
            posed = read_posed(folder)
    except InputError as error:
        refused(error)
        return
    count = len(posed.names)
    assert count == len(posed.cameras) == len(posed.paths) == len(posed.masks)
    ids = torch.arange(count)
    rays = posed.cameras.rays(ids, posed.cameras.size.double() / 2 + 0.25)
    assert all(bool(torch.isfinite(part).all()) for part in rays)
    region = choose_region(posed, has_alpha=False)
    assert bool(torch.isfinite(region.box).all())
    assert bool((region.box[0] < region.box[1]).all())
    assert 0 <= region.near < region.far < float("inf")


def try_spoiling(folder: Path, file: Path, changes: list[tuple[str, float, bytes]]) -> None:
    whole = file.read_bytes()
    try:
        file.write_bytes(spoilt(whole, changes))
        read_or_refuse(folder)
    finally:
        file.write_bytes(whole)


WRITTEN: dict[str, tuple[Callable[..., None], str]] = {
    "blender": (blender.write, "transforms_train.json"),
    "transforms": (transforms.write, "transforms.json"),
    "cameras": (colmap.write, "sparse/0/cameras.bin"),
    "images": (colmap.write, "sparse/0/images.bin"),
    "cameras text": (lambda *a: colmap.write(*a, ".txt"), "sparse/0/cameras.txt"),
    "images text": (lambda *a: colmap.write(*a, ".txt"), "sparse/0/images.txt"),
    "points text": (lambda *a: colmap.write(*a, ".txt"), "sparse/0/points3D.txt"),
    "llff": (llff.write, "poses_bounds.npy"),
}


@pytest.mark.parametrize("name", WRITTEN)
@spoiling
@given(changes=damage)
def test_spoilt_files_of_the_built_in_scene(small_scene, tmp_path_factory, name, changes):
    write, file = WRITTEN[name]
    folder = tmp_path_factory.getbasetemp() / f"spoilt {name}"
    if not folder.exists():
        folder.mkdir()
        from dataclasses import replace

        points = torch.rand(30, 3, dtype=torch.float64)
        write(replace(small_scene, points=points), folder)
    try_spoiling(folder, folder / file, changes)


REAL = [
    ("blender-lego", "transforms_test.json"),
    ("ngp-fox", "transforms.json"),
    ("colmap-cup", "sparse/0/cameras.bin"),
    ("colmap-cup", "sparse/0/images.bin"),
    ("colmap-cup", "sparse/0/points3D.bin"),
    ("llff-fern", "poses_bounds.npy"),
    ("llff-fern", "sparse/0/cameras.bin"),
    ("llff-fern", "sparse/0/points3D.bin"),
]


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "file"), REAL)
def test_spoilt_real_files(scene_with_images, name, file):
    folder = scene_with_images(name)

    @settings(spoiling, max_examples=15)
    @given(changes=damage)
    def spoil(changes: list[tuple[str, float, bytes]]) -> None:
        try_spoiling(folder, folder / file, changes)

    spoil()


# What a JSON value may be changed into.
anything = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.floats() | st.none(), max_size=5)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)
steps = st.lists(st.integers(0, 10**6), min_size=1, max_size=6)


def changed(data: Any, path: list[int], value: Any, remove: bool) -> None:
    """Walk into a JSON value by numbers; change or remove what is there."""
    place = data
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = keys[path.pop(0) % len(keys)]
        if path and isinstance(place[key], dict | list) and place[key]:
            place = place[key]
            continue
        if remove:
            del place[key]
        else:
            place[key] = value
        return


@pytest.mark.parametrize("name", ["blender", "transforms"])
@spoiling
@given(path=steps, value=anything, remove=st.booleans())
def test_json_with_other_values(small_scene, tmp_path_factory, name, path, value, remove):
    write, file = WRITTEN[name]
    folder = tmp_path_factory.getbasetemp() / f"changed {name}"
    if not folder.exists():
        folder.mkdir()
        write(small_scene, folder)
    whole = (folder / file).read_text()
    data = json.loads(whole)
    changed(data, path, value, remove)
    try:
        (folder / file).write_text(json.dumps(data))
        read_or_refuse(folder)
    finally:
        (folder / file).write_text(whole)


@pytest.mark.real_data
def test_fox_with_other_values(scene_with_images):
    folder = scene_with_images("ngp-fox")
    file = folder / "transforms.json"
    whole = file.read_text()

    @settings(spoiling, max_examples=25)
    @given(path=steps, value=anything, remove=st.booleans())
    def spoil(path: list[int], value: Any, remove: bool) -> None:
        data = json.loads(whole)
        changed(data, path, value, remove)
        file.write_text(json.dumps(data))
        read_or_refuse(folder)

    spoil()


@spoiling
@given(changes=damage)
def test_spoilt_point_clouds(tmp_path, changes):
    path = tmp_path / "points.ply"
    write_points(path, torch.rand(9, 3, dtype=torch.float64), torch.zeros(9, 3, dtype=torch.uint8))
    path.write_bytes(spoilt(path.read_bytes(), changes))
    try:
        points, _ = read_points(path)
    except InputError as error:
        refused(error)
        return
    assert bool(torch.isfinite(points).all())
