"""Runs with a gate: what they save when they are done is pruned, what they go on from is not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from polyfield.datasets.builtin import builtin_scene
from polyfield.datasets.scene import Scene
from polyfield.fields import model_file, tensor_file
from polyfield.training.api import evaluate, train

SMALL = (
    "field.encoder.levels=3",
    "field.encoder.log2_table=12",
    "field.encoder.finest=40",
    "field.gate.side=9",
    "field.gate.penalty=0.01",
    "train.samples=4096",
    "train.rate=0.1",
    "train.warmup=0",
    "render.resolution=32",
)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return builtin_scene(views=10, size=32)


def hollow(scene: Scene, out: Path, prune: float, steps: int = 20) -> Any:
    changes = [*SMALL, f"train.prune={prune}"]
    return train(scene, out=out, field="hollow", steps=steps, changes=changes)


@pytest.fixture(scope="module")
def whole(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return hollow(scene, tmp_path_factory.mktemp("runs") / "whole", prune=0.0)


@pytest.fixture(scope="module")
def limit(whole: Any) -> float:
    """Between p where nothing was seen, which has only fallen, and where most was."""
    p = torch.sigmoid(model_file.load(whole.run).module.gate.grid.detach())
    assert p.max() > p.min() + 0.01
    return round(0.5 * float(p.min() + p.max()), 4)


def test_a_finished_run_is_pruned_and_measured_as_it_is_saved(
    scene: Scene, tmp_path: Path, whole: Any, limit: float
) -> None:
    run = tmp_path / "pruned"
    pruned = hollow(scene, run, limit)
    model = model_file.load(run)
    assert model.config["field"]["gate"]["closed_below"] == limit
    cells = model.module.gate.close(limit)[1]
    assert 0 < cells.float().mean() < 1
    assert model_file.load(whole.run).config["field"]["gate"]["closed_below"] == 0.0
    file = run / "field.safetensors"
    assert pruned.metrics["bytes"] == file.stat().st_size < whole.metrics["bytes"]
    assert pruned.metrics["stored_values"] < whole.metrics["stored_values"]
    assert pruned.metrics["parameters"] == whole.metrics["parameters"]
    again = evaluate(run, scene=scene)
    assert again["psnr"] == pytest.approx(pruned.metrics["psnr"], abs=1e-6)
    # A finished run that is resumed has nothing to do, and is pruned alike.
    before = tensor_file.read(file)[0]
    assert train(scene, out=run, resume=True).step == 20
    after = tensor_file.read(file)[0]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_that_goes_on_knows_nothing_of_it(scene: Scene, tmp_path: Path, limit: float) -> None:
    states = []
    for name, prune in (("whole", 0.0), ("pruned", limit)):
        run = tmp_path / name
        hollow(scene, run, prune, steps=12)
        config = json.loads((run / "config.json").read_text())
        (run / "config.json").write_text(json.dumps({**config, "steps": 20}))
        assert train(scene, out=run, resume=True).step == 20
        states.append(tensor_file.read(run / "state.safetensors")[0])
    whole, pruned = states
    assert whole.keys() == pruned.keys()
    assert all(torch.equal(whole[name], pruned[name]) for name in whole)
    assert model_file.load(tmp_path / "pruned").config["field"]["gate"]["closed_below"] == limit
