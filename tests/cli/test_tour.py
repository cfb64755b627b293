"""The commands for real, on the built-in scene, as small as they go."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from polyfield.cli import main
from polyfield.fields import model_file
from polyfield.renderers.rendered import Rendered
from polyfield.renderers.volume import VolumeRenderer
from polyfield.training.run_folder import RunFolder

# 25x25 pixels and a few steps: this is about files, statuses and words, not about quality.
SMALL = ["--downscale", "8", "--set", "train.samples=2048"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("tour") / "run"
    assert main.run(["train", "builtin", "--out", str(run), "--steps", "12", *SMALL]) == 0
    return run


def test_train_leaves_a_run_folder(trained):
    names = {path.name for path in trained.iterdir()}
    assert names >= {
        "config.json",
        "field.safetensors",
        "state.safetensors",
        "log.jsonl",
        "metrics.json",
    }
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == list(range(1, 13))
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["steps"] == 12
    assert metrics["views"] == len(metrics["per_view"]) == 8


def test_the_folder_is_not_overwritten_by_accident(trained, capsys):
    before = (trained / "field.safetensors").read_bytes()
    assert main.run(["train", "builtin", "--out", str(trained), "--steps", "1"]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert (trained / "field.safetensors").read_bytes() == before


def test_eval_agrees_with_training(trained, capsys):
    assert main.run(["eval", str(trained), "--json", "--save-images"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    wanted = json.loads((trained / "metrics.json").read_text())
    assert metrics["psnr"] == pytest.approx(wanted["psnr"])
    assert len(list((trained / "renders").glob("*.png"))) == 8


@pytest.mark.parametrize("path", ["orbit", "spiral", "test"])
def test_render_pictures(trained, tmp_path, path, capsys):
    out = tmp_path / path
    words = ["render", str(trained), "--path", path, "--out", str(out)]
    assert main.run([*words, "--width", "16", "--frames", "2"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    files = sorted(out.glob("*.png"))
    assert len(files) == (8 if path == "test" else 2)
    with Image.open(files[0]) as image:
        assert image.size == (16, 16)


def test_render_a_video_along_a_file(trained, tmp_path):
    pose = [[1, 0, 0, 0], [0, 0, 1, -3], [0, -1, 0, 0], [0, 0, 0, 1]]
    (tmp_path / "path.json").write_text(
        json.dumps(
            {
                "width": 16,
                "height": 16,
                "seconds": 1,
                "fps": 4,
                "keyframes": [{"world_from_camera": pose, "fov": 40}],
            }
        )
    )
    out = tmp_path / "video.mp4"
    words = ["render", str(trained), "--path", str(tmp_path / "path.json"), "--out", str(out)]
    assert main.run(words) == 0
    import av

    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4


@pytest.mark.parametrize("what", ["builtin", "run", "file"])
def test_inspect(trained, tmp_path, capsys, what):
    name = {"builtin": "builtin", "run": str(trained), "file": str(trained / "field.safetensors")}
    picture = tmp_path / "cameras.png"
    assert main.run(["inspect", name[what], "--picture", str(picture), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["split"] == {"train": 52, "val": 0, "test": 8}
    with Image.open(picture) as image:
        assert len(image.convert("RGB").getcolors(1 << 24)) > 10  # something is drawn
    assert main.run(["inspect", name[what], "--picture", str(picture)]) == 0
    assert "train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "status", "told"),
    [
        ("3", 2, "must hold an object with named values, but holds 3"),
        ('{"psnr": ' + "9" * 5000 + "}", 2, "has a number of thousands of digits"),
        ('{"psnr": NaN, "ssim": 1e999}', 0, '"metrics": {"psnr": null, "ssim": null}'),
    ],
)
def test_inspect_with_a_spoilt_evaluation(trained, tmp_path, capsys, text, status, told):
    run = tmp_path / "run"
    run.mkdir()
    (run / "field.safetensors").write_bytes((trained / "field.safetensors").read_bytes())
    (run / "metrics.json").write_text(text)
    words = ["inspect", str(run), "--picture", str(tmp_path / "a.png"), "--json"]
    assert main.run(words) == status
    assert told in " ".join(capsys.readouterr())


def test_inspect_draws_no_finer_than_a_picture_needs(trained, tmp_path, monkeypatch, capsys):
    """The steps are what costs; the picture is a preview, the facts are the model's own."""
    model = model_file.load(trained)
    model.config["render"] |= {"steps": 65536}
    model_file.save(model, tmp_path / "fine.safetensors")
    drawn = []
    monkeypatch.setattr(
        VolumeRenderer, "render_rays", lambda self, *rays: drawn.append(self) or no(*rays)
    )
    words = ["inspect", str(tmp_path / "fine.safetensors"), "--picture", str(tmp_path / "a.png")]
    assert main.run([*words, "--json"]) == 0
    assert drawn[0].config.steps == 1024
    assert json.loads(capsys.readouterr().out)["config"]["render"]["steps"] == 65536


def no(origins, directions, background):
    """Nothing is seen."""
    return Rendered(background, background[:, 0], background[:, 0], 0)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "{tmp}/none", "--out", "{tmp}/r"], "none"),
        (["train", "{tmp}", "--out", "{tmp}/r"], "{tmp}"),
        (["eval", "{tmp}"], "{tmp} is not a run folder: it has no field.safetensors"),
        (["train", "builtin", "--out", "{tmp}/r", "--field", ""], "There is no field preset ''"),
        (["train", "", "--out", "{tmp}/r"], "The path of the scene is empty"),
        (["train", "builtin", "--out", "{tmp}/r", "--format", "llff"], "is for scenes in folders"),
        (["render", "{tmp}/none", "--path", "orbit", "--out", "{tmp}/o"], "none"),
        (["inspect", "{tmp}"], "{tmp}"),
        (
            ["train", "builtin", "--out", "{tmp}/r", "--field", "hashgird"],
            "Did you mean 'hashgrid'",
        ),
        (["train", "builtin", "--out", "{tmp}/r", "--set", "train.rat=1"], "Did you mean 'rate'"),
        (["train", "{tmp}", "--out", "{tmp}/r", "--format", "llf"], "Did you mean 'llff'"),
        (["train", "--resume", "--out", "{tmp}"], "is not a run folder"),
    ],
)
def test_what_is_not_there_is_one_sentence(tmp_path, capsys, words, sentence):
    assert main.run([word.format(tmp=tmp_path) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence.format(tmp=tmp_path) in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not (tmp_path / "r" / "config.json").exists()


def test_a_second_writer_is_bad_input(tmp_path, capsys):
    with RunFolder.create(tmp_path / "run"):
        words = ["train", "builtin", "--out", str(tmp_path / "run"), "--steps", "1", *SMALL]
        assert main.run(words) == 2
    assert "is being written by another run" in capsys.readouterr().err.splitlines()[-1]


def test_ctrl_c_saves_and_resume_goes_on(small_scene, tmp_path):
    """A user's Ctrl-C in the middle of a run, and the command that the answer names."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "polyfield", "train"]
    words = [small_scene, "--out", run, "--steps", "100000", "--set", "train.samples=2048"]
    process = subprocess.Popen([*command, *words], stderr=subprocess.PIPE, text=True)
    log = run / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"Go on with: polyfield train --resume --out {run}" in err
    assert "Traceback" not in err
    saved = len(log.read_text().splitlines())
    assert f"saved at step {saved}." in err
    assert saved > 0

    process = subprocess.Popen(
        [*command, "--resume", "--out", str(run)], stderr=subprocess.PIPE, text=True
    )
    while len(log.read_text().splitlines()) < saved + 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > saved


def test_demo_makes_one_page_that_needs_nothing_else(tmp_path, capsys):
    words = ["demo", "--out", str(tmp_path), "--steps", "3", "--frames", "2"]
    assert main.run(words) == 0
    assert f"The report: {tmp_path / 'report.html'}" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") >= 10
    assert "data:video/mp4;base64," in page
    assert "<script" not in page
    assert "http" not in page
    assert os.listdir(tmp_path).count("report.html") == 1
