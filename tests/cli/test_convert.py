"""What `polyfield convert` and `polyfield fit` hand to the Python API, and what they print of it."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polyfield.cli import main

METRICS = {
    "field": "tensorf",
    "psnr": None,
    "train_seconds": 59.5,
    "bytes": 1_234_567,
    "psnr_to_teacher": 33.5,
    "views_of_teacher": 16,
    "teacher": {"field": "hashgrid", "psnr": None, "bytes": 7_654_321},
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The last call of each function of the API; `calls.metrics` is what it then says."""
    made = SimpleNamespace(metrics=METRICS, convert=None, fit=None)

    def recorder(name: str) -> Any:
        def call(source: Any, **settings: Any) -> Any:
            setattr(made, name, {"source": source, **settings})
            return SimpleNamespace(
                run=Path(settings["out"]), step=7, interrupted=False, metrics=made.metrics
            )

        return call

    for name in ("convert", "fit"):
        module = importlib.import_module(f"polyfield.training.{name}")
        monkeypatch.setattr(module, name, recorder(name))
    return made


def test_what_is_asked_for_is_handed_on(calls: SimpleNamespace, capsys: Any) -> None:
    words = "convert runs/lego --to tensorf --out r --steps 7 --scene s --seed 3 --precision fp32"
    assert main.run([*words.split(), "--set", "train.rate=0.1", "--json"]) == 0
    call = calls.convert
    assert (call["source"], call["to"], call["scene"]) == ("runs/lego", "tensorf", "s")
    assert (call["steps"], call["budget"], call["seed"]) == (7, None, 3)
    assert (call["precision"], call["changes"]) == ("fp32", ("train.rate=0.1",))
    assert json.loads(capsys.readouterr().out)["psnr_to_teacher"] == 33.5


def test_with_nothing_more_it_takes_a_minute(calls: SimpleNamespace, capsys: Any) -> None:
    assert main.run(["convert", "runs/lego", "--to", "nerf", "--out", "r"]) == 0
    assert (calls.convert["budget"], calls.convert["scene"]) == (60.0, None)
    out = capsys.readouterr().out
    assert "Against its teacher, 16 views: PSNR 33.50 dB" in out
    assert "Bytes: 7,654,321 before, 1,234,567 now" in out
    assert "test views" not in out


def test_with_a_scene_both_are_told(calls: SimpleNamespace, capsys: Any) -> None:
    calls.metrics = METRICS | {"psnr": 31.25, "views": 25, "split": "test"}
    calls.metrics["teacher"] = METRICS["teacher"] | {"psnr": 32.5}
    assert main.run(["convert", "runs/lego", "--to", "nerf", "--out", "r", "--scene", "s"]) == 0
    assert "25 test views: PSNR 31.25 dB, the teacher's 32.50 dB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("convert --to nerf --out r", "still needed: RUN"),
        ("convert runs/lego --out r", "still needed: --to PRESET"),
        ("convert --resume --out r --to nerf", "--to cannot change"),
        ("convert --resume --out r --seed 1", "--seed cannot change"),
    ],
)
def test_what_is_missing_is_said(
    calls: SimpleNamespace, capsys: Any, words: str, message: str
) -> None:
    assert main.run(words.split()) == 2
    assert message in capsys.readouterr().err
    assert calls.convert is None


@pytest.mark.parametrize(
    ("given", "field"), [((), "hashgrid"), (("--field", "kplanes"), "kplanes")]
)
def test_fit_takes_the_field_that_is_named(
    calls: SimpleNamespace, given: tuple[str, ...], field: str
) -> None:
    calls.metrics = {}
    assert main.run(["fit", "photo.png", "--out", "r", "--json", *given]) == 0
    assert calls.fit["field"] == field
