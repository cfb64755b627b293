"""Going on with a comparison: only with what was begun alike, and with all that is not done."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from polyfield.datasets.builtin import builtin_scene
from polyfield.datasets.formats import blender
from polyfield.errors import InputError
from polyfield.training import compare as module
from polyfield.training.api import evaluate
from polyfield.training.begun import is_done, pixels_as_begun
from polyfield.training.compare import compare
from polyfield.training.loop import Control

SMALL = ("train.samples=2048", "field.encoder.log2_table=12", "render.steps=64")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    folder = tmp_path / "scene"
    blender.write(builtin_scene(views=9, size=24), folder)
    return folder


def test_a_run_that_was_evaluated_on_its_way_is_not_done(tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    Image.linear_gradient("L").resize((64, 40)).convert("RGB").save(image)
    settings: dict[str, Any] = {"fields": ["hashgrid"], "out": tmp_path / "c"}
    settings["changes"] = ("field.encoder.levels=2", "train.batch=256")
    control = Control()
    stopped = compare(
        image,
        steps=20,
        control=control,
        on_progress=lambda now: control.stop.set() if now.step else None,
        **settings,
    )
    assert stopped.interrupted
    assert 0 < evaluate(tmp_path / "c/hashgrid")["steps"] < 20
    (row,) = compare(image, steps=20, resume=True, **settings).rows
    assert row["steps"] == 20


@pytest.mark.parametrize("pixels", [None, "many", float("nan"), float("inf"), -1.0, 0, [3.0]])
def test_what_cannot_be_a_number_of_pixels_is_none(pixels: Any) -> None:
    assert pixels_as_begun({"pixels": pixels}) is None
    assert pixels_as_begun({}) is None
    assert pixels_as_begun({"pixels": 207.5}) == 207.5


@pytest.mark.parametrize(
    ("metrics", "length", "done"),
    [
        ({"steps": 20, "train_seconds": 1.0}, (None, 20), True),
        ({"steps": 19, "train_seconds": 99.0}, (None, 20), False),
        ({"steps": 3, "train_seconds": 9.1}, (9.0, None), True),
        ({"steps": 3, "train_seconds": 8.9}, (9.0, None), False),
        ({"steps": 3}, (9.0, None), False),
        ({"steps": 3, "train_seconds": "long"}, (9.0, None), False),
        ({"train_seconds": 9.1}, (9.0, None), False),
        ([20], (None, 20), False),
        (None, (None, 20), False),
    ],
)
def test_done_is_what_was_measured_at_the_end_of_its_plan(
    metrics: object, length: tuple[float | None, int | None], done: bool
) -> None:
    assert is_done(metrics, length) == done


def test_runs_on_another_scene_or_size_do_not_go_on(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"fields": ["hashgrid"], "out": tmp_path / "c", "changes": SMALL}
    first = compare(scene, steps=2, **settings)
    settings |= {"resume": True, "fields": ["hashgrid", "hollow"]}
    with pytest.raises(InputError, match=r"begun with images reduced by 1, but now .* by 2; give"):
        compare(scene, downscale=2, **settings)
    other = tmp_path / "elsewhere/scene"  # of the same name
    shutil.copytree(scene, other)
    file = next((other / "train").iterdir())
    Image.open(file).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(file)
    with pytest.raises(InputError, match=r"is a run of something else than .*elsewhere/scene; cho"):
        compare(other, **settings)
    with pytest.raises(InputError, match="is a run of something else than builtin; choose"):
        compare("builtin", **settings)
    assert not (tmp_path / "c/hollow").exists()
    moved = scene.rename(tmp_path / "moved")
    monkeypatch.setattr(module, "train", None)  # must not be called
    assert compare(moved, **settings | {"fields": ["hashgrid"]}).rows == first.rows


def test_a_source_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    Image.linear_gradient("L").resize((64, 40)).convert("RGB").save(image)
    settings: dict[str, Any] = {"fields": ["hashgrid"], "out": tmp_path / "c", "kind": "image"}
    compare(image, steps=2, changes=("field.encoder.levels=2",), **settings)
    image.unlink()
    with pytest.raises(InputError, match=r"image\.png cannot be read: No such file"):
        compare(image, resume=True, changes=("field.encoder.levels=2",), **settings)
