"""Converting fields end to end, on the built-in scene: any into any, repeatable, and refused in a sentence."""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from polyfield.datasets.builtin import builtin_scene
from polyfield.datasets.scene import Scene
from polyfield.errors import ConfigError, DataError, InputError
from polyfield.fields import model_file
from polyfield.fields.model import build_model
from polyfield.fields.presets import preset, preset_names
from polyfield.renderers.registry import renderer_for
from polyfield.training import distillation
from polyfield.training.api import evaluate, train
from polyfield.training.convert import convert
from polyfield.training.distillation import (
    Distillation,
    DistillationTask,
    copy_parts,
    same_features,
)
from polyfield.training.loop import Control
from polyfield.training.teacher import Lessons
from polyfield.training.viewpoints import viewpoints

SMALL = ("field.encoder.log2_table=12", "field.encoder.levels=3")
POINTWISE = [name for name in preset_names() if name != "cam-ray"]
# Sizes that a test can afford.
AFFORDABLE: dict[str, tuple[str, ...]] = {
    "hashgrid": ("field.encoder.log2_table=11", "field.encoder.levels=3"),  # not the teacher's
    "hollow": SMALL,
    "rbfnet": SMALL,
    "neurbf": ("field.encoder.kernels=500", "field.encoder.grid.log2_table=12"),
    "kplanes": ("field.encoder.base=16", "field.encoder.scales=[1,2]"),
    "tensorf": (
        *("field.encoder.side=32", "field.encoder.sides=[[0.5,48]]"),
        *("field.appearance_encoder.side=32", "field.appearance_encoder.sides=[[0.5,48]]"),
    ),
    "tensorf-cp": ("field.encoder.side=32", "field.appearance_encoder.side=32"),
    "plenoxels": ("field.encoder.side=16", "field.encoder.sides=[]"),
    "nerf": (
        "field.density_head.hidden=3",
        "field.density_head.width=32",
        "field.density_head.skips=[2]",
    ),
    "cam": ("field.density_head.width=32", "field.density_head.sides=[16,16,16]"),
}


@pytest.fixture(scope="module")
def scene() -> Scene:
    return builtin_scene(views=10, size=40)


@pytest.fixture(scope="module")
def teacher(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learnt something, only for looking."""
    run = tmp_path_factory.mktemp("teacher") / "run"
    changes = (*SMALL, "train.samples=8192", "render.steps=256", "render.resolution=64")
    train(scene, out=run, steps=150, changes=changes)
    return run


def short(teacher: Path, out: Path, to: str = "hashgrid", **options: Any) -> Any:
    changes = (*AFFORDABLE[to], "train.samples=4096")
    return convert(teacher, to=to, out=out, **{"steps": 30, "changes": changes, **options})


def weights(run: Path) -> dict[str, torch.Tensor]:
    return model_file.load(run).module.state_dict()


def test_every_preset_can_be_taught() -> None:
    assert set(AFFORDABLE) == set(POINTWISE)


@pytest.mark.parametrize("to", [name for name in POINTWISE if name != "plenoxels"])
def test_a_student_comes_nearer_to_its_teacher(teacher: Path, tmp_path: Path, to: str) -> None:
    early = short(teacher, tmp_path / "early", to, steps=1).metrics["psnr_to_teacher"]
    # A deep perceptron of 32 neurons needs its time, as do those that are told the density and see the scene at once;
    # all others see it after some steps.
    steps = 150 if to in ("nerf", "cam", "tensorf", "tensorf-cp") else 80
    late = short(teacher, tmp_path / "late", to, steps=steps).metrics["psnr_to_teacher"]
    assert late > early + 1
    # What is seen at all gives 16 dB; nothing but the background 13, as do the first steps.
    assert late > 16


def test_a_grid_without_a_network_sees_before_it_learns(teacher: Path, tmp_path: Path) -> None:
    told = short(teacher, tmp_path / "told", "plenoxels", steps=1).metrics["psnr_to_teacher"]
    assert told > 18
    changes = (*AFFORDABLE["plenoxels"], "train.samples=4096", "train.told=false")
    alone = short(teacher, tmp_path / "alone", "plenoxels", steps=1, changes=changes)
    # A thin fog, which is a little better than nothing.
    assert alone.metrics["psnr_to_teacher"] < 15


def test_from_a_student_it_goes_on(teacher: Path, tmp_path: Path) -> None:
    """A conversion is a run as any other: it can be converted, evaluated, and looked at."""
    short(teacher, tmp_path / "one", "kplanes", steps=60)
    back = short(tmp_path / "one", tmp_path / "two", "hashgrid", steps=60)
    assert back.metrics["psnr_to_teacher"] > 20
    assert back.metrics["teacher"]["field"] == "kplanes"


def test_the_student_of_the_same_kind_begins_as_its_teacher(teacher: Path, tmp_path: Path) -> None:
    changes = (
        "train.rate=1e-9",
        "field.color_head.hidden=1",
    )  # as of a short run, not of a student
    result = convert(
        teacher, to="hashgrid", out=tmp_path / "run", steps=1, changes=(*SMALL, *changes)
    )
    assert result.metrics["psnr_to_teacher"] > 60


def test_the_scene_gives_the_figures_of_photographs(
    scene: Scene, teacher: Path, tmp_path: Path
) -> None:
    result = short(teacher, tmp_path / "run", scene=scene)
    alone = evaluate(teacher, scene=scene)
    assert result.metrics["teacher"]["psnr"] == pytest.approx(alone["psnr"], abs=1e-6)
    again = evaluate(tmp_path / "run", scene=scene)
    assert again["psnr"] == pytest.approx(result.metrics["psnr"], abs=1e-6)
    kept = json.loads((tmp_path / "run/metrics.json").read_text())
    assert kept["teacher"] == result.metrics["teacher"]
    assert result.metrics["bytes"] == (tmp_path / "run/field.safetensors").stat().st_size
    assert result.metrics["teacher"]["bytes"] == (teacher / "field.safetensors").stat().st_size
    without = short(teacher, tmp_path / "without").metrics
    assert without["psnr"] is None
    assert without["teacher"]["psnr"] is None


def test_a_bare_file_is_enough(teacher: Path, tmp_path: Path) -> None:
    shutil.copy(teacher / "field.safetensors", tmp_path / "alone.safetensors")
    short(tmp_path / "alone.safetensors", tmp_path / "from-file")
    short(teacher, tmp_path / "from-run")
    one, other = weights(tmp_path / "from-file"), weights(tmp_path / "from-run")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_without_a_capture_it_is_looked_at_from_around(teacher: Path, tmp_path: Path) -> None:
    model = model_file.load(teacher)
    model.capture, model.info = {}, {}
    model_file.save(model, tmp_path / "alone.safetensors")
    result = short(tmp_path / "alone.safetensors", tmp_path / "run", steps=40)
    assert result.metrics["psnr_to_teacher"] > 18


def test_the_same_seed_gives_the_same_bits(teacher: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        short(teacher, tmp_path / name, "kplanes", seed=seed)
    one, same, other = (weights(tmp_path / name) for name in ("one", "same", "other"))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("stop", [1, 14, 29])
@pytest.mark.parametrize("to", ["kplanes", "tensorf", "neurbf"])
def test_a_resumed_conversion_ends_with_the_same_bits(
    teacher: Path, tmp_path: Path, to: str, stop: int, stop_after: Callable[[int], Event]
) -> None:
    short(teacher, tmp_path / "whole", to)
    first = short(teacher, tmp_path / "cut", to, control=Control(stop=stop_after(stop)))
    assert (first.interrupted, first.step) == (True, stop)
    second = convert(None, out=tmp_path / "cut", resume=True)
    assert (second.interrupted, second.step) == (False, 30)
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize("stop", [20, 70])
def test_an_active_conversion_goes_on_with_the_same_bits(
    teacher: Path, tmp_path: Path, stop: int, stop_after: Callable[[int], Event]
) -> None:
    """Stopped before and after rays begin to look where errors were, 64 lessons on; rays count from step 60."""
    active = ("train.active=0.5", "train.points=0.5", "train.pictures=0.6", "train.uses=1")
    changes = (*AFFORDABLE["kplanes"], "train.samples=1024", *active)
    plan: dict[str, Any] = {"to": "kplanes", "steps": 100, "changes": changes}
    convert(teacher, out=tmp_path / "whole", **plan)
    convert(teacher, out=tmp_path / "cut", control=Control(stop=stop_after(stop)), **plan)
    assert convert(None, out=tmp_path / "cut", resume=True).step == 100
    convert(teacher, out=tmp_path / "passive", **{**plan, "changes": (*changes, "train.active=0")})
    whole, cut, passive = (weights(tmp_path / name) for name in ("whole", "cut", "passive"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert not all(torch.equal(whole[name], passive[name]) for name in whole)


@pytest.mark.parametrize("to", ["kplanes", "nerf"])
def test_a_share_of_the_points_teaches(teacher: Path, tmp_path: Path, to: str) -> None:
    points = ("train.points=0.25", "train.pictures=1.0", "train.samples=1024")
    plan = {"to": to, "changes": (*AFFORDABLE[to], *points)}
    early, late = (
        convert(teacher, out=tmp_path / str(steps), steps=steps, **plan).metrics["psnr_to_teacher"]
        for steps in (1, 150)
    )
    assert late > max(early + 1, 16)  # as of whole lessons, above


def test_lessons_are_taken_as_often_as_their_price_asks(teacher: Path, tmp_path: Path) -> None:
    small = (*AFFORDABLE["kplanes"], "train.samples=1024")
    for name, changes in (("paced", small), ("fixed", (*small, "train.uses=3"))):
        convert(teacher, to="kplanes", out=tmp_path / name, budget=4.0, changes=changes)
    uses = [
        json.loads((tmp_path / name / "config.json").read_text())["train"]["uses"]
        for name in ("paced", "fixed")
    ]
    assert 1 <= uses[0] <= 16
    assert uses[1] == 3


def test_a_slow_teacher_is_asked_less_often(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a made-up clock, on which nothing takes time but showing and asking the student."""
    model = model_file.load(teacher)
    lessons = Lessons(model, viewpoints(model), 0, uses=2, min_transmittance=1e-3, features=False)
    task = DistillationTask(model_file.load(teacher), lessons, Distillation(), None, seed=0)
    lesson, now = lessons.first(16), 0.0

    def taking(seconds: Iterable[float], given: Any) -> Callable[..., Any]:
        left = iter(seconds)

        def call(*_: Any) -> Any:
            nonlocal now
            now += next(left)
            return given

        return call

    monkeypatch.setattr(distillation, "time", SimpleNamespace(perf_counter=lambda: now))
    # Seconds that a lesson takes, and that the student takes for it: a step costs 2.5 times the latter, and 6 uses
    # halve what a lesson is worth, so that (2.5 learnt + shown / uses) (1 + uses / 6) is what is to be least.
    for shown, learnt, uses in [(0.25, 0.001, 16), (1.0, 0.12, 4), (0.0, 0.25, 1)]:
        # The first time does not count: there it is the other way round.
        monkeypatch.setattr(Lessons, "first", taking((learnt, shown), lesson))
        monkeypatch.setattr(distillation, "evaluate", taking((shown, learnt), None))
        assert task.pace() == uses
        assert lessons.uses == uses


def test_going_on_needs_the_same_teacher(
    teacher: Path, tmp_path: Path, stop_after: Callable[[int], Event]
) -> None:
    moved = tmp_path / "teacher"
    shutil.copytree(teacher, moved)
    short(moved, tmp_path / "cut", control=Control(stop=stop_after(3)))
    shutil.rmtree(moved)
    with pytest.raises(InputError, match="no run folder or field file"):
        convert(None, out=tmp_path / "cut", resume=True)
    short(teacher, tmp_path / "other", steps=2)
    with pytest.raises(InputError, match=r"is not the field that .* learns from"):
        convert(tmp_path / "other", out=tmp_path / "cut", resume=True)
    assert convert(teacher, out=tmp_path / "cut", resume=True).step == 30


def test_commands_tell_conversions_from_training(teacher: Path, tmp_path: Path) -> None:
    short(teacher, tmp_path / "run", steps=2)
    with pytest.raises(InputError, match="made by polyfield convert"):
        train(None, out=tmp_path / "run", resume=True)
    with pytest.raises(InputError, match="made by polyfield train"):
        convert(None, out=teacher, resume=True)


def test_the_teacher_is_not_overwritten(teacher: Path, tmp_path: Path) -> None:
    moved = tmp_path / "teacher"
    shutil.copytree(teacher, moved)
    before = (moved / "field.safetensors").read_bytes()
    with pytest.raises(InputError, match="holds the field that is to be converted"):
        short(moved, moved, overwrite=True)
    with pytest.raises(InputError, match="is not empty"):
        short(moved, moved)
    assert (moved / "field.safetensors").read_bytes() == before


def test_parts_that_both_have_are_copied() -> None:
    domain = {"kind": "box", "low": [-1.0] * 3, "high": [1.0] * 3}

    def field(name: str, seed: int) -> Any:
        return build_model(
            "radiance", {"field": preset(name)["field"], "domain": domain}, seed
        ).module

    hashgrid, kplanes, nerf = field("hashgrid", 1), field("kplanes", 2), field("nerf", 3)
    assert same_features(hashgrid, kplanes)
    assert not same_features(hashgrid, nerf)
    assert not same_features(hashgrid, field("tensorf", 4))
    assert copy_parts(hashgrid, kplanes) == ["color_head"]
    mine, theirs = (f.color_head.state_dict() for f in (kplanes, hashgrid))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert copy_parts(hashgrid, nerf) == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"to": "tensorff"}, ConfigError, "tensorf"),
        ({"to": "cam-ray"}, InputError, "whole rays"),
        ({"changes": ("train.hull=false",)}, ConfigError, "hull"),
        ({"changes": ("field.encoder.lvels=3",)}, ConfigError, "levels"),
        ({"changes": ("render.resolution=32",)}, ConfigError, "occupancy is the teacher's"),
        ({"changes": ("train.uses=0",)}, ConfigError, "uses"),
        ({"budget": 5.0}, InputError, "steps or a time budget"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    teacher: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        convert(teacher, **{"out": tmp_path / "run", "steps": 5, **options})
    assert not (tmp_path / "run").exists()


def test_teachers_that_cannot_be_are_refused(teacher: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(InputError, match="no run folder or field file"):
        convert(tmp_path / "nothing", out=out, steps=1)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes((teacher / "field.safetensors").read_bytes()[:-100])
    with pytest.raises(DataError):
        convert(broken, out=out, steps=1)
    sphere = build_model(
        "sphere",
        {
            "field": preset("hashgrid", "sphere")["field"],
            "domain": {"width": 8, "height": 4, "channels": 3},
        },
    )
    model_file.save(sphere, tmp_path / "sphere.safetensors")
    with pytest.raises(InputError, match="only radiance fields"):
        convert(tmp_path / "sphere.safetensors", out=out, steps=1)
    whole = model_file.load(teacher)
    config = {**whole.config, "field": preset("cam-ray")["field"]}
    model_file.save(build_model("radiance", config), tmp_path / "ray.safetensors")
    with pytest.raises(InputError, match="Conversion asks for single points"):
        convert(tmp_path / "ray.safetensors", out=out, steps=1)
    assert not out.exists()


def test_a_teacher_that_shows_nothing_is_refused(teacher: Path, tmp_path: Path) -> None:
    model = model_file.load(teacher)
    with torch.no_grad():
        for parameter in model.module.density_head.parameters():
            parameter.zero_()
    model.module.config = model.module.config
    model.config["field"]["density_gain"] = 1e-9
    model_file.save(model, tmp_path / "empty.safetensors")
    with pytest.raises(InputError, match="shows nothing"):
        convert(tmp_path / "empty.safetensors", out=tmp_path / "run", steps=1)
    assert not (tmp_path / "run").exists()


def test_another_scene_is_refused(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="domain of its own scene"):
        short(teacher, tmp_path / "run", scene=builtin_scene(views=12, size=40))
    assert not (tmp_path / "run").exists()


def test_a_scene_without_training_views_is_refused(
    scene: Scene, teacher: Path, tmp_path: Path
) -> None:
    held_out = replace(scene, split={**scene.split, "train": ()})
    with pytest.raises(InputError, match="no training views to look from"):
        short(teacher, tmp_path / "run", scene=held_out)
    assert not (tmp_path / "run").exists()


def test_the_file_says_where_it_came_from(teacher: Path, tmp_path: Path) -> None:
    short(teacher, tmp_path / "run", "kplanes")
    model = model_file.load(tmp_path / "run")
    assert model.info["preset"] == "kplanes"
    assert model.info["steps"] == 30
    renderer_for(model)
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["teacher"] == str((teacher / "field.safetensors").resolve())
    assert model.capture.keys() == model_file.load(teacher).capture.keys()
