"""Presets spelled out: what the length of a run and the cameras of a capture make of them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from polyfield.datasets.builtin import builtin_scene
from polyfield.fields.presets import preset, preset_names
from polyfield.training.api import train
from polyfield.training.convert import convert
from polyfield.training.run_config import plan_settings
from polyfield.training.run_folder import RunFolder
from polyfield.training.sharpness import pixels_across

MINUTE = (None, 60.0)
CUBE = {"kind": "box", "low": [-1.0, -1.0, -1.0], "high": [1.0, 1.0, 1.0]}


def values(settings: list[str]) -> dict[str, str]:
    return dict(setting.split("=", 1) for setting in settings)


def test_what_hangs_on_pixels_is_there() -> None:
    seen = {name: preset(name).get("per_pixel", {}) for name in preset_names()}
    assert any(seen.values())
    for name, sizes in seen.items():
        for path in sizes:
            place: Any = preset(name)
            for key in path.split("."):
                place = place[key]
            assert place > 64


@pytest.mark.parametrize("name", [n for n in preset_names() if "per_pixel" in preset(n)])
def test_no_grid_is_finer_than_what_cameras_see(name: str) -> None:
    for path, share in preset(name)["per_pixel"].items():
        alone = values(plan_settings(name, MINUTE))
        found = [
            float(values(plan_settings(name, MINUTE, pixels=pixels))[path])
            for pixels in (1.0, 200.0, 400.0, 1e6)
        ]
        # The smallest pictures still have a grid, and the sharpest none that is finer than was planned.
        assert found[:3] == [64.0, round(200 * share), round(400 * share)]
        assert found[3] == float(alone.get(path, found[3])) > found[2]


def test_pixels_are_counted_at_the_middle() -> None:
    """A pinhole at a distance d shows a side s in f s / d pixels; a contraction's cube is four radii wide."""
    scene = builtin_scene(views=12, size=40)
    cameras, views = scene.cameras, list(scene.split["train"])
    away = cameras.positions[views].double().norm(dim=1)
    each = 2.0 * cameras.focal[views].double().amax(1) / away
    found = pixels_across(cameras, views, CUBE)
    assert found == pytest.approx(float(each.quantile(0.9)), rel=1e-6)
    ball = {"kind": "contraction", "center": [0.0, 0.0, 0.0], "radius": 0.5}
    assert pixels_across(cameras, views, ball) == pytest.approx(found, rel=1e-6)
    assert pixels_across(cameras, [], CUBE) is None


def test_a_camera_in_the_middle_sees_sharply_but_not_endlessly() -> None:
    scene = builtin_scene(views=4, size=40)
    low = (scene.cameras.positions[0] - 1.0).tolist()
    around = {"kind": "box", "low": low, "high": [value + 2.0 for value in low]}
    found = pixels_across(scene.cameras, [0], around)
    assert found is not None
    assert torch.isfinite(torch.tensor(found))
    assert found > 1e4


def test_runs_have_what_their_cameras_see(tmp_path: Path) -> None:
    """As trained, and as taught from the capture in the teacher's file."""
    scene = builtin_scene(views=6, size=40)
    small = ("field.encoder.log2_table=8", "train.samples=1024")
    run = train(scene, out=tmp_path / "run", steps=2, changes=small).run
    pixels = RunFolder.open(run).read_config()["pixels"]
    finest = round(max(64, 1.75 * pixels))
    student = convert(run, to="hashgrid", out=tmp_path / "student", steps=2, changes=small).run
    for folder in (run, student):
        config = RunFolder.open(folder).read_config()
        assert config["pixels"] == pixels
        assert config["model"]["field"]["encoder"]["finest"] == finest
    own = (*small, "field.encoder.finest=100")
    changed = train(scene, out=tmp_path / "own", steps=2, changes=own).run
    assert RunFolder.open(changed).read_config()["model"]["field"]["encoder"]["finest"] == 100
