"""What each command hands to the Python API and prints, with the API replaced by a recorder."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from polyfield.cli import main
from polyfield.cli.eval import table
from polyfield.training import api, rendering
from polyfield.training.progress import Progress

METRICS = {
    "field": "hashgrid",
    "scene": "lego",
    "split": "test",
    "views": 2,
    "psnr": 31.0,
    "ssim": 0.95,
    "lpips": None,
    "per_view": [
        {"name": "r_0.png", "psnr": 30.0, "ssim": 0.94},
        {"name": "r_8.png", "psnr": 32.0, "ssim": 0.96},
    ],
    "steps": 120,
    "train_seconds": 59.5,
    "protocol": {"downscale": 1, "background": "white"},
}


@pytest.fixture
def recorded(monkeypatch):
    """Calls of the API; `recorded.interrupt` makes a run end early."""
    calls = SimpleNamespace(
        train=None, evaluate=None, render=None, interrupt=False, metrics=METRICS
    )

    def train(scene, **settings):
        calls.train = {"scene": scene, **settings}
        settings["on_progress"](Progress(message="Reading."))
        settings["on_progress"](Progress(step=120, steps=120))
        metrics = {} if calls.interrupt else calls.metrics
        return SimpleNamespace(
            run=Path(settings["out"]), step=120, interrupted=calls.interrupt, metrics=metrics
        )

    def evaluate(run, **settings):
        calls.evaluate = {"run": run, **settings}
        return METRICS

    def render(run, **settings):
        calls.render = {"run": run, **settings}
        return Path(settings["out"])

    monkeypatch.setattr(api, "train", train)
    monkeypatch.setattr(api, "evaluate", evaluate)
    monkeypatch.setattr(rendering, "render", render)
    return calls


def test_train_with_nothing_asked_for(recorded, capsys):
    assert main.run(["train", "scenes/lego", "--out", "runs/lego"]) == 0
    call = recorded.train
    assert call["scene"] == "scenes/lego"
    assert (call["budget"], call["steps"]) == (60.0, None)
    assert (call["field"], call["downscale"], call["background"]) == ("hashgrid", 1, "random")
    assert (call["seed"], call["precision"], call["changes"]) == (0, None, ())
    assert not call["resume"]
    assert not call["overwrite"]
    out, err = capsys.readouterr()
    assert "120 steps in 59.5 s" in out
    assert "2 test views: PSNR 31.00 dB, SSIM 0.9500" in out
    assert err == "Reading.\nstep 120/120\n"


def test_train_with_everything(recorded, capsys):
    words = "train s --out r --field nerf --steps 7 --downscale 2 --background white --format llff"
    words += " --save-every 10s --overwrite --seed 3 --precision fp32 --threads 2 --json"
    assert main.run([*words.split(), "--set", "train.rate=0.1", "--set", "a.b=c"]) == 0
    call = recorded.train
    assert (call["budget"], call["steps"], call["field"]) == (None, 7, "nerf")
    assert (call["downscale"], call["background"], call["format"]) == (2, "white", "llff")
    assert (call["save_every"], call["overwrite"], call["seed"]) == (10.0, True, 3)
    assert (call["precision"], call["threads"]) == ("fp32", 2)
    assert call["changes"] == ("train.rate=0.1", "a.b=c")
    printed = json.loads(capsys.readouterr().out)
    assert printed["run"] == "r"
    assert printed["psnr"] == 31.0
    assert printed["interrupted"] is False


def test_train_the_built_in_scene(recorded):
    assert main.run(["train", "builtin", "--out", "r"]) == 0
    assert recorded.train["scene"] == "builtin"


def test_resume_needs_no_scene_and_no_plan(recorded):
    assert main.run(["train", "--resume", "--out", "r"]) == 0
    call = recorded.train
    assert call["scene"] is None
    assert call["resume"]
    assert (call["budget"], call["steps"]) == (None, None)


def test_nothing_was_held_out(recorded, capsys):
    recorded.metrics = {}
    assert main.run(["train", "s", "--out", "r"]) == 0
    assert capsys.readouterr().out.startswith("r: 120 steps\n")


def test_an_interrupted_run_says_how_to_go_on(recorded, capsys):
    recorded.interrupt = True
    assert main.run(["train", "s", "--out", "runs/r"]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert (
        "Interrupted; saved at step 120. Go on with: polyfield train --resume --out runs/r" in err
    )
    assert main.run(["train", "s", "--out", "runs/r", "--json"]) == 130
    assert json.loads(capsys.readouterr().out) == {
        "run": "runs/r",
        "steps": 120,
        "interrupted": True,
    }


def test_eval(recorded, capsys):
    assert main.run(["eval", "r", "--scene", "s", "--split", "val", "--save-images"]) == 0
    call = recorded.evaluate
    assert (call["run"], call["scene"], call["split"]) == (Path("r"), "s", "val")
    assert call["save_images"]
    assert capsys.readouterr().out == table(METRICS) + "\n"


def test_eval_json_is_the_metrics_file(recorded, capsys):
    assert main.run(["eval", "r", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == METRICS
    assert recorded.evaluate["split"] == "test"


def test_table():
    lines = table(METRICS).splitlines()
    assert lines[0].split() == ["view", "PSNR", "dB", "SSIM"]
    assert lines[1].split() == ["r_0.png", "30.00", "0.9400"]
    assert lines[3].split() == ["mean", "31.00", "0.9500"]
    assert lines[4].endswith("downscale 1, background white; LPIPS not computed (no weights given)")
    assert "LPIPS 0.1234" in table({**METRICS, "lpips": 0.1234, "protocol": None})


def test_render(recorded, capsys):
    assert main.run(["render", "r", "--path", "orbit", "--out", "o.mp4"]) == 0
    call = recorded.render
    assert (call["run"], call["path"], call["out"]) == (Path("r"), "orbit", Path("o.mp4"))
    assert all(call[name] is None for name in ("width", "height", "fps", "frames", "threads"))
    assert call["depth"] is False
    assert capsys.readouterr().out == "o.mp4\n"
    words = (
        "render r --path p.json --out d --width 64 --height 48 --fps 5 --frames 3 --depth --json"
    )
    assert main.run(words.split()) == 0
    call = recorded.render
    assert (call["width"], call["height"], call["fps"], call["frames"]) == (64, 48, 5, 3)
    assert call["depth"] is True
    assert json.loads(capsys.readouterr().out) == {"out": "d"}
