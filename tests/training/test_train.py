"""Training end to end, on the built-in scene: it learns, it repeats itself, and it survives."""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from PIL import Image

from polyfield.datasets.builtin import builtin_scene
from polyfield.datasets.formats import blender
from polyfield.datasets.scene import Scene
from polyfield.errors import ConfigError, InputError, RunError
from polyfield.fields import model_file
from polyfield.renderers.registry import renderer_for
from polyfield.training import radiance, ray_source
from polyfield.training.api import evaluate, train
from polyfield.training.evaluation import evaluate_model
from polyfield.training.interest import Interest
from polyfield.training.loop import Control

SMALL = ("field.encoder.log2_table=12", "field.encoder.levels=3", "train.samples=4096")


@pytest.fixture(scope="module")
def scene() -> Scene:
    return builtin_scene(views=10, size=40)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return model_file.load(run).module.state_dict()


def short(scene: Scene, out: Path, **options: Any) -> Any:
    return train(scene, out=out, **{"steps": 40, "changes": SMALL, **options})


@pytest.fixture(scope="module")
def finished(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that went through, only for looking."""
    run = tmp_path_factory.mktemp("finished") / "run"
    short(scene, run)
    return run


def test_the_same_seed_gives_the_same_bits(scene: Scene, finished: Path, tmp_path: Path) -> None:
    short(scene, tmp_path / "same")
    short(scene, tmp_path / "other", seed=1)
    one, same, other = map(weights, (finished, tmp_path / "same", tmp_path / "other"))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("stop", [1, 17, 33])
def test_a_resumed_run_ends_with_the_same_bits(
    scene: Scene, finished: Path, tmp_path: Path, stop: int, stop_after: Callable[[int], Event]
) -> None:
    first = short(scene, tmp_path / "cut", control=Control(stop=stop_after(stop)))
    assert (first.interrupted, first.step) == (True, stop)
    second = train(scene, out=tmp_path / "cut", resume=True)
    assert (second.interrupted, second.step) == (False, 40)
    whole, cut = weights(finished), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    lines = (tmp_path / "cut/log.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == list(range(1, 41))


@pytest.mark.parametrize("stop", [10, 23])
def test_a_run_without_a_hull_resumes_with_what_it_found_empty(
    scene: Scene,
    tmp_path: Path,
    stop: int,
    monkeypatch: pytest.MonkeyPatch,
    stop_after: Callable[[int], Event],
) -> None:
    monkeypatch.setattr(radiance, "_FIRST_LOOK", 4)  # then at 8, 16, 32, where a block begins
    monkeypatch.setattr(radiance, "_CROWDED", 1.0)
    monkeypatch.setattr(ray_source, "_BLOCK", 512)
    found: list[torch.Tensor] = []
    of = Interest.of

    def looked(*args: Any) -> Interest:
        interest = of(*args)
        found.append(interest.tiles)
        return interest

    monkeypatch.setattr(Interest, "of", looked)
    # So few cells that all are seen by the first look.
    changes = (*SMALL, "train.hull=false", "render.resolution=32")
    short(scene, tmp_path / "whole", changes=changes)
    looks = list(found)
    assert len({len(tiles) for tiles in looks}) >= 2
    short(scene, tmp_path / "cut", changes=changes, control=Control(stop=stop_after(stop)))
    train(scene, out=tmp_path / "cut", resume=True)
    assert all(map(torch.equal, found, 2 * looks))
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_metrics_say_what_the_contract_says(scene: Scene, tmp_path: Path) -> None:
    result = short(scene, tmp_path / "run")
    written = json.loads((tmp_path / "run/metrics.json").read_text())
    assert written == result.metrics
    assert {
        "field",
        "scene",
        "split",
        "views",
        "psnr",
        "ssim",
        "lpips",
        "per_view",
        "steps",
        "train_seconds",
        "parameters",
        "stored_values",
        "bytes",
        "peak_memory_bytes",
        "protocol",
    } <= written.keys()
    assert written["views"] == len(written["per_view"]) == 2
    assert written["protocol"].keys() == {"downscale", "background", "color_space", "holdout"}
    assert written["field"] == "hashgrid"


def test_a_perceptual_distance_is_computed_only_where_asked_for(
    scene: Scene, tmp_path: Path
) -> None:
    short(scene, tmp_path / "run", steps=2)
    model = model_file.load(tmp_path / "run")
    assert evaluate_model(model, scene)["lpips"] is None
    distances = iter([torch.tensor(0.25), torch.tensor(0.75)])
    result = evaluate_model(model, scene, perceptual=lambda *_: next(distances))
    assert result["lpips"] == 0.5


def test_a_run_can_be_moved_and_evaluated_again(scene: Scene, tmp_path: Path) -> None:
    before = train(None, out=tmp_path / "here", steps=3, downscale=8, changes=SMALL).metrics
    (tmp_path / "here").rename(tmp_path / "there")
    after = evaluate(tmp_path / "there", save_images=True)
    assert after["psnr"] == before["psnr"]
    assert len(list((tmp_path / "there/renders").glob("*.png"))) == after["views"]
    alone = tmp_path / "alone.safetensors"
    (tmp_path / "there/field.safetensors").rename(alone)
    with pytest.raises(InputError, match="does not say which scene"):
        evaluate(alone)


def test_it_learns_the_scene(tmp_path: Path) -> None:
    # The floor of the quality that a short run must reach; it reached 1 dB more when this was written.
    result = train(builtin_scene(downscale=2), out=tmp_path / "run", steps=500)
    assert result.metrics["psnr"] >= 28.0


def test_the_mlp_field_learns_too(scene: Scene, tmp_path: Path) -> None:
    changes = (
        "field.density_head.width=64",
        "field.density_head.hidden=4",
        "field.density_head.skips=[2]",
        "field.features=16",
        "train.samples=8192",
        "train.rate=0.005",
    )
    quality = []
    for steps in (1, 200):
        run = tmp_path / str(steps)
        train(scene, out=run, field="nerf", steps=steps, changes=changes)
        # On the training views: eight small pictures are too few for new views of so free a field.
        quality.append(evaluate_model(model_file.load(run), scene, "train")["psnr"])
    assert quality[1] > quality[0] + 3


def test_a_nan_stops_the_run_and_keeps_what_was_good(scene: Scene, tmp_path: Path) -> None:
    poisoned = builtin_scene(views=4, size=16)
    sick = Scene(**{**vars(poisoned), "images": _Sick(poisoned.images)})
    control = Control()
    control.save.set()  # before the first step, when all is well
    with pytest.raises(RunError, match=r"stopped at step \d+: .* is not finite.* holds step 0,"):
        short(sick, tmp_path / "run", control=control)
    assert model_file.load(tmp_path / "run").info["steps"] == 0
    assert all(torch.isfinite(t).all() for t in weights(tmp_path / "run").values())


class _Sick:
    """Images of which a pixel is NaN among the first few thousand rays."""

    def __init__(self, images: Any) -> None:
        self._images = images

    def __getattr__(self, name: str) -> Any:
        return getattr(self._images, name)

    def gather(self, camera: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        rgba = self._images.gather(camera, x, y)
        rgba[2_000, 0] = float("nan")
        return rgba


def test_another_scene_is_refused_on_resume(
    scene: Scene, tmp_path: Path, stop_after: Callable[[int], Event]
) -> None:
    short(scene, tmp_path / "run", control=Control(stop=stop_after(2)))
    other = Scene(**{**vars(scene), "fingerprint": "other"})
    with pytest.raises(InputError, match="is not the scene that this run was started with"):
        train(other, out=tmp_path / "run", resume=True)


def test_other_pixels_are_another_scene(tmp_path: Path, stop_after: Callable[[int], Event]) -> None:
    """Also in a run folder of before pixels were hashed: there only the cameras are compared."""
    folder, run = tmp_path / "scene", tmp_path / "run"
    blender.write(builtin_scene(views=9, size=24), folder)
    train(folder, out=run, steps=4, changes=SMALL, control=Control(stop=stop_after(2)))
    file = folder / "train/r_0.png"
    Image.open(file).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(file)
    with pytest.raises(InputError, match="the pixels of its images differ"):
        train(None, out=run, resume=True)
    with pytest.raises(InputError, match=r"not what this run was trained on.*pixels"):
        evaluate(run)
    config = json.loads((run / "config.json").read_text())
    config["fingerprint"] = config["fingerprint"].partition("-")[0]
    (run / "config.json").write_text(json.dumps(config))
    assert train(None, out=run, resume=True).step == 4


def test_bad_wishes_touch_nothing(scene: Scene, tmp_path: Path) -> None:
    run = tmp_path / "run"
    short(scene, run, steps=2)
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()}
    for wish, error, message in [
        ({"steps": 0}, InputError, "must be a whole number >= 1, but is 0"),
        ({"steps": 2.5}, InputError, "must be a whole number >= 1, but is 2.5"),
        ({"steps": True}, InputError, "must be a whole number >= 1, but is True"),
        ({"steps": None, "budget": float("nan")}, InputError, "above 0 seconds and finite"),
        ({"steps": None, "budget": "60s"}, InputError, "above 0 seconds and finite, but is '60s'"),
        ({"save_every": 0}, InputError, "--save-every must be above 0 seconds"),
        ({"threads": 0}, InputError, "--threads must be a whole number from 1 to 1024, but is 0"),
        ({"downscale": 2}, InputError, "is in memory, reduced by 1, so it cannot be reduced by 2"),
        ({"downscale": 0}, InputError, "cannot be reduced by 0"),
        ({"format": "llff"}, InputError, "is in memory, so it cannot be read as 'llff'"),
        ({"seed": 1.5}, InputError, "--seed must be a whole number from 0"),
        ({"field": ""}, ConfigError, "There is no field preset ''. Known: "),
        ({"steps": None, "budget": 0.0}, InputError, "must be above 0 seconds"),
        ({"field": "hashgird"}, ConfigError, "Did you mean 'hashgrid'"),
        ({"changes": ("train.rat=1",)}, ConfigError, "Did you mean 'rate'"),
        ({"changes": ("train.rate=-1",)}, ConfigError, "must be above 0"),
        ({"changes": ("field.density_head.hidden=0",)}, InputError, "hidden must be"),
        ({"changes": ("render.resolution=7",)}, InputError, "must be a power of two"),
        ({"changes": ("render.cone=-1",)}, ConfigError, "cone must be in"),
        ({"changes": ("train.final_rate=1e300",)}, ConfigError, "final_rate must be in"),
        ({"precision": "fp8"}, InputError, "must be fp32 or bf16"),
        ({"background": "green"}, ConfigError, "must be random, white or black"),
    ]:
        with pytest.raises(error, match=message):
            short(scene, run, overwrite=True, **wish)
        with pytest.raises(InputError, match="is not empty"):
            short(scene, run)
    assert {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()} == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"downscale": 1.5}, "--downscale must be a whole number >= 1, but is 1.5"),
        ({"downscale": 0}, "--downscale must be a whole number >= 1, but is 0"),
        ({"format": "llff"}, "--format llff is for scenes in folders"),
    ],
)
def test_bad_wishes_for_the_built_in_scene(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train("builtin", out=tmp_path / "run", steps=2, **settings)
    assert not (tmp_path / "run").exists()


def test_a_scene_in_memory_is_asked_for_again(
    scene: Scene, tmp_path: Path, stop_after: Callable[[int], Event]
) -> None:
    """The run cannot find it by itself, and does not take the built-in one instead."""
    run = tmp_path / "run"
    short(scene, run, steps=4, control=Control(stop=stop_after(2)))
    for again in (lambda: evaluate(run), lambda: train(None, out=run, resume=True)):
        with pytest.raises(InputError, match=r"run was trained on was in memory.*--scene"):
            again()
    assert evaluate(run, scene=scene)["views"] == 2
    small = builtin_scene(views=10, size=40, downscale=2)
    for again in (
        lambda: evaluate(run, scene=small),
        lambda: train(small, out=run, resume=True),
    ):
        with pytest.raises(InputError, match=r"reduced by 2, but .* images reduced by 1"):
            again()
    assert train(scene, out=run, resume=True).step == 4
    short(small, tmp_path / "small", steps=1)
    assert json.loads((tmp_path / "small/config.json").read_text())["downscale"] == 2


def test_a_folder_without_a_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no run folder or field file"):
        evaluate(tmp_path / "none")
    with pytest.raises(InputError, match=r"is not a run folder: it has no field\.safetensors"):
        evaluate(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="the run was stopped before its first save"):
        evaluate(tmp_path)


def test_a_plan_cannot_change_on_the_way(
    scene: Scene, tmp_path: Path, stop_after: Callable[[int], Event]
) -> None:
    short(scene, tmp_path / "run", control=Control(stop=stop_after(2)))
    for plan in ({"steps": 80}, {"budget": 9.0}):
        with pytest.raises(InputError, match="keeps its plan"):
            train(scene, out=tmp_path / "run", resume=True, **plan)


def test_a_config_without_its_parts_is_one_sentence(
    scene: Scene, tmp_path: Path, stop_after: Callable[[int], Event]
) -> None:
    short(scene, tmp_path / "run", control=Control(stop=stop_after(2)))
    config = json.loads((tmp_path / "run/config.json").read_text())
    config["model"] = {}
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="lacks 'kind'"):
        train(scene, out=tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: m.info.update(split=5), "split must list views"),
        (lambda m: m.info.update(split={"test": [999]}), "split must list views"),
        (lambda m: m.capture["size"].fill_(-1), "must have sides of"),
        (lambda m: m.capture["focal"].fill_(float("inf")), "focal is not finite"),
        (lambda m: m.config.pop("render"), "render lacks the key 'low'"),
        (lambda m: m.renderer_state.update(zzz=torch.zeros(3)), r"'renderer.zzz'.*does not know"),
    ],
)
def test_a_field_with_impossible_facts_is_refused(
    scene: Scene, tmp_path: Path, spoil: Any, message: str
) -> None:
    short(scene, tmp_path / "run", steps=1)
    model = model_file.load(tmp_path / "run")
    spoil(model)
    model_file.save(model, tmp_path / "run/field.safetensors")
    with pytest.raises(InputError, match=message):
        renderer_for(model_file.load(tmp_path / "run"))


def test_figures_of_another_scene_do_not_replace_the_own(tmp_path: Path) -> None:
    train(None, out=tmp_path / "run", steps=1, downscale=8, changes=SMALL)
    before = (tmp_path / "run/metrics.json").read_text()
    config = json.loads((tmp_path / "run/config.json").read_text())
    config["fingerprint"] = "of another scene"
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    evaluate(tmp_path / "run", scene="builtin")
    assert (tmp_path / "run/metrics.json").read_text() == before


def test_all_held_out_is_one_sentence(scene: Scene, tmp_path: Path) -> None:
    empty = Scene(**{**vars(scene), "split": {"train": (), "val": (), "test": (0, 1)}})
    with pytest.raises(InputError, match="has no training views"):
        short(empty, tmp_path / "run")


def test_nothing_held_out_still_trains(scene: Scene, tmp_path: Path) -> None:
    all_train = Scene(**{**vars(scene), "split": {"train": (0, 1, 2), "val": (), "test": ()}})
    assert short(all_train, tmp_path / "run", steps=2).metrics == {}
