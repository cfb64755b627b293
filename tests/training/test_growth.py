"""Runs whose field grows: resumed they end with the same bits, and their files are files as others."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch

from polyfield.datasets.builtin import builtin_scene
from polyfield.datasets.pictures import save_png
from polyfield.datasets.scene import Scene
from polyfield.errors import PolyfieldError
from polyfield.fields import model_file, tensor_file
from polyfield.training.api import evaluate, train
from polyfield.training.fit import fit
from polyfield.training.loop import Control

GROWTH = "[[0.2, 16], [0.5, 24]]"
RUNS = {
    # A head that takes any features, so that nothing but the grids grows.
    "vm": (
        'field.encoder={"kind": "vm", "channels": 4, "side": 8, "sparsity": 0.001, "sides": %s}',
        'field.appearance_encoder={"kind": "cp", "channels": 8, "side": 8, "sides": [[0.3, 20]]}',
    ),
    "voxels": (
        'field.encoder={"kind": "voxels", "channels": 4, "side": 8, "smooth_rest": 0.001, "sides": %s}',
    ),
}
# A gate's multiplier and steepness change with each step and are not trained.
HOLLOW = (
    "field.gate.side=9",
    "field.gate.penalty=0.1",
    "field.gate.switch=0.4",
    "field.encoder.levels=3",
    "field.encoder.log2_table=12",
    "train.samples=4096",
    "render.resolution=32",
)
every_run = pytest.mark.parametrize("name", RUNS)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return builtin_scene(views=10, size=40)


def grow(scene: Scene, out: Path, name: str, **options: Any) -> Any:
    changes = [change.replace("%s", GROWTH) for change in RUNS[name]]
    changes += ["train.samples=4096", "render.resolution=32"]
    return train(scene, out=out, steps=40, changes=changes, **options)


Finished = Callable[[str], Path]


@pytest.fixture(scope="module")
def finished(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Gives the folder of a run that went through; it is made once, and only for looking."""

    @cache
    def made(name: str) -> Path:
        run = tmp_path_factory.mktemp(name) / "run"
        grow(scene, run, name)
        return run

    return made


def state_of(run: Path) -> dict[str, torch.Tensor]:
    return tensor_file.read(run / "state.safetensors")[0]


def field_of(run: Path) -> dict[str, Any]:
    field: dict[str, Any] = model_file.load(run).config["field"]
    return field


@every_run
@pytest.mark.parametrize("stop", [5, 15, 30])
def test_a_run_that_is_resumed_before_or_after_a_growth_ends_with_the_same_bits(
    scene: Scene,
    finished: Finished,
    tmp_path: Path,
    name: str,
    stop: int,
    stop_after: Callable[[int], Event],
) -> None:
    first = grow(scene, tmp_path / "cut", name, control=Control(stop=stop_after(stop)))
    assert (first.interrupted, first.step) == (True, stop)
    expected = 8 if stop < 8 else 16 if stop < 20 else 24
    assert field_of(tmp_path / "cut")["encoder"]["side"] == expected
    second = train(scene, out=tmp_path / "cut", resume=True)
    assert (second.interrupted, second.step) == (False, 40)
    whole, cut = state_of(finished(name)), state_of(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    assert field_of(finished(name)) == field_of(tmp_path / "cut")


@every_run
def test_a_grown_run_is_evaluated_as_it_is(
    scene: Scene, finished: Finished, tmp_path: Path, name: str
) -> None:
    shutil.copytree(finished(name), tmp_path / "run")
    before = json.loads((tmp_path / "run/metrics.json").read_text())
    again = evaluate(tmp_path / "run", scene=scene)
    assert again["psnr"] == pytest.approx(before["psnr"], abs=1e-6)
    asked = json.loads((tmp_path / "run/config.json").read_text())["model"]["field"]
    assert asked["encoder"]["side"] == 8  # what was asked for stays written
    assert field_of(tmp_path / "run")["encoder"]["side"] == 24


def test_empty_space_is_dropped_where_the_occupancy_grid_is_empty(finished: Finished) -> None:
    encoder = field_of(finished("voxels"))["encoder"]
    assert 0 < encoder["rows"] < 24**3


@pytest.mark.parametrize("broken", [5, {}, {"encoder": {"kind": "vm"}}])
def test_a_state_of_another_field_is_one_sentence(
    scene: Scene, tmp_path: Path, broken: Any, stop_after: Callable[[int], Event]
) -> None:
    grow(scene, tmp_path / "run", "vm", control=Control(stop=stop_after(10)))
    file = tmp_path / "run/state.safetensors"
    tensors, note = tensor_file.read(file)
    note["values"]["field"] = broken
    tensor_file.write(file, tensors, note)
    with pytest.raises(PolyfieldError):
        train(scene, out=tmp_path / "run", resume=True)


def test_a_state_from_before_fields_grew_goes_on(
    scene: Scene, tmp_path: Path, stop_after: Callable[[int], Event]
) -> None:
    small = ("field.encoder.log2_table=12", "field.encoder.levels=3", "train.samples=4096")
    run = tmp_path / "run"
    train(scene, out=run, steps=10, changes=small, control=Control(stop=stop_after(4)))
    tensors, note = tensor_file.read(run / "state.safetensors")
    del note["values"]["field"]
    tensor_file.write(run / "state.safetensors", tensors, note)
    assert train(scene, out=run, resume=True).step == 10


@pytest.mark.parametrize("stop", [5, 16])
def test_a_run_with_a_gate_that_is_resumed_ends_with_the_same_bits(
    scene: Scene, tmp_path: Path, stop: int, stop_after: Callable[[int], Event]
) -> None:
    options: dict[str, Any] = {"field": "hollow", "steps": 40, "changes": HOLLOW}
    train(scene, out=tmp_path / "whole", **options)
    first = train(scene, out=tmp_path / "cut", control=Control(stop=stop_after(stop)), **options)
    assert (first.interrupted, first.step) == (True, stop)
    train(scene, out=tmp_path / "cut", resume=True)
    whole, cut = state_of(tmp_path / "whole"), state_of(tmp_path / "cut")
    assert float(whole["weights.gate.multiplier"]) > 0
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_what_is_fitted_grows_too(tmp_path: Path, stop_after: Callable[[int], Event]) -> None:
    save_png(
        tmp_path / "image.png", torch.rand(20, 30, 3, generator=torch.Generator().manual_seed(0))
    )
    changes = [f'field.encoder={{"kind": "vm", "channels": 4, "side": 8, "sides": {GROWTH}}}']
    options: dict[str, Any] = {"kind": "sphere", "steps": 40, "changes": changes}
    fit(tmp_path / "image.png", out=tmp_path / "whole", **options)
    assert field_of(tmp_path / "whole")["encoder"]["side"] == 24
    first = fit(
        tmp_path / "image.png",
        out=tmp_path / "cut",
        control=Control(stop=stop_after(15)),
        **options,
    )
    assert field_of(first.run)["encoder"]["side"] == 16
    fit(None, out=tmp_path / "cut", resume=True)
    whole, cut = state_of(tmp_path / "whole"), state_of(tmp_path / "cut")
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
