"""Training several fields alike on one thing, and laying side by side what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from polyfield.config import from_json
from polyfield.errors import InputError, PolyfieldError, RunError
from polyfield.fields import model_file
from polyfield.fields.model import build_model
from polyfield.fields.presets import preset
from polyfield.files import write_json
from polyfield.training.api import train
from polyfield.training.begun import (
    Asked,
    Length,
    begun_config,
    check_settings,
    is_done,
    length_as_begun,
    pixels_as_begun,
)
from polyfield.training.comparison_page import Shown, comparison_page
from polyfield.training.fit import KINDS, fit, kind_of, spell_signal
from polyfield.training.loop import Control
from polyfield.training.memory import check_memory
from polyfield.training.progress import Progress
from polyfield.training.radiance import RadianceTraining, check_training
from polyfield.training.run_config import plan_settings, spell_out
from polyfield.training.run_folder import RunFolder
from polyfield.training.running import Tell, TrainResult, model_facts

__all__ = ["Comparison", "compare", "comparison_row"]

_TABLE = "comparison.json"
_PAGE = "comparison.html"

# Settings are read, and fields are built for a look, before a scene or a file is read. Of these their shapes do not
# depend, but for one more output where a picture is transparent.
_SOME_BOX = {"low": [-1.0, -1.0, -1.0], "high": [1.0, 1.0, 1.0]}
_SOME_PICTURE, _SOME_SOLID = {"width": 1, "height": 1}, {"center": [0.0, 0.0, 0.0], "scale": 1.0}
_SOME_DOMAIN: dict[str, dict[str, Any]] = {
    "radiance": {"kind": "box", **_SOME_BOX},
    "image": _SOME_PICTURE,
    "sphere": _SOME_PICTURE,
    "sdf": _SOME_SOLID,
    "udf": _SOME_SOLID,
    "occupancy": _SOME_SOLID,
}


@dataclass(frozen=True)
class Comparison:
    """What came of a comparison.

    Attributes:
        rows: A dictionary for each field, in the order in which they were named: see `comparison_row`; with "failed",
            a sentence, where a run failed.
        page: The HTML page.
        interrupted: Whether it was asked to stop before all were done; what is done is kept.
    """

    rows: list[dict[str, Any]]
    page: Path
    interrupted: bool


def compare(
    source: Path | str,
    *,
    fields: Sequence[str],
    out: Path | str,
    kind: str | None = None,
    budget: float | None = None,
    steps: int | None = None,
    downscale: int = 1,
    seed: int = 0,
    changes: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    on_progress: Tell = lambda _: None,
    control: Control | None = None,
) -> Comparison:
    """Train several presets alike, each into a run folder of its own, and write a page about them.

    Args:
        source: A folder of posed images or "builtin", or a file of an image or a mesh.
        fields: Names of presets.
        out: Folder; the runs are folders in it, named as their presets.
        kind: What to fit, one of `polyfield.training.fit.KINDS`; None: posed images, or what a file
            is fitted as.
        budget, steps: How long each may take: seconds (60 where neither is given), or steps.
        downscale: Of posed images.
        seed: Of each run.
        changes: Settings of each run, such as "train.samples=8192".
        resume: Keep the runs in `out` that are done, go on with those that are not; all else must be as it was, but for
            where the source lies.
        overwrite: Replace the runs in `out`.
        threads: Number of threads.
        on_progress: Told how it goes.
        control: Stops from outside.

    Raises:
        InputError: Something that was given cannot be used. What only a later run finds out is in its row.
    """
    if kind is None and Path(source).is_file() and Path(source).suffix.lower() != ".json":
        kind = kind_of(source)
    _check_fields(fields, kind)
    if kind is not None and downscale != 1:
        raise InputError("--downscale reduces posed images; other files are fitted as they are.")
    out = Path(out)
    there = [name for name in fields if resume and (out / name / "config.json").exists()]
    for name in fields:  # a folder with something in it, unless it was said what to do with that
        RunFolder.check(out / name, resume=name in there, overwrite=overwrite)
    control = control or Control()
    length, asked = (budget, steps), Asked(source, kind, downscale, seed)
    begun = {}
    for name in there:
        begun[name] = begun_config(out / name)
        length = length_as_begun(out / name, begun[name], asked, length)
    if length == (None, None):
        length = (60.0, None)
    for name in fields:  # what the last would refuse is refused before the first is trained
        was = _sections(begun.get(name, {}))
        try:
            seen = was.get("render", _SOME_BOX), pixels_as_begun(begun.get(name, {}))
            wished = _spelled(name, kind, length, changes, seen)
            if name not in begun:
                _check_built(kind or "radiance", wished)
        except InputError as error:
            raise type(error)(f"{name}: {error}") from None
        check_settings(out / name, was, wished)

    def run(name: str) -> TrainResult:
        folder = out / name
        going_on = name in begun
        metrics = RunFolder.open(folder).read_metrics() if going_on else None
        if is_done(metrics, length):
            return TrainResult(folder, metrics["steps"], False, metrics)
        settings: dict[str, Any] = {
            "out": folder,
            "budget": None if going_on else length[0],
            "steps": None if going_on else length[1],
            "field": name,
            "seed": seed,
            "changes": changes,
            "resume": going_on,
            "overwrite": overwrite,
            "threads": threads,
            "on_progress": on_progress,
            "control": control,
        }
        if kind is None:
            return train(source, downscale=downscale, **settings)
        return fit(source, kind=None if going_on else kind, **settings)

    rows: list[dict[str, Any]] = []
    interrupted = False
    for number, name in enumerate(fields):
        on_progress(Progress(message=f"Field {number + 1} of {len(fields)}: {name}."))
        try:
            result = run(name)
        except PolyfieldError as error:
            if isinstance(error, InputError) and not rows:
                raise  # no run is lost, and it is likely to be wrong for all
            rows.append({"field": name, "failed": str(error)})
            continue
        interrupted = result.interrupted
        if interrupted:
            break
        rows.append(comparison_row(result) | {"field": name})
    page = out / _PAGE
    if rows:
        out.mkdir(parents=True, exist_ok=True)  # a run that failed may have left no folder
        _write_rows(out / _TABLE, rows)  # first: it needs nothing but the runs
        comparison_page(Shown(str(source), kind, out), rows).write(page)
    return Comparison(rows, page, interrupted)


def comparison_row(result: TrainResult) -> dict[str, Any]:
    """Give what is compared of a run: quality, sizes, speed.

    Returns:
        The run's metrics of one number each, without those of quality where nothing was held out to measure it, and
        "samples_per_second": evaluations of the field while it was trained, None where it did not take a step.
    """
    folder = RunFolder.open(result.run)
    metrics, log = result.metrics, folder.read_log()
    if not metrics:
        model = model_file.load(folder.path)
        metrics = {"field": model.info.get("preset"), **model_facts(model, folder.model_path)}
    seconds = log[-1]["seconds"] if log else 0.0
    keys = (
        "field",
        "psnr",
        "psnr_unseen",
        "ssim",
        "iou",
        "iou_near",
        "normal_error",
        "error_near",
        "accuracy",
        "completeness",
        "parameters",
        "stored_values",
        "bytes",
        "steps",
        "train_seconds",
    )
    return {
        **{key: metrics[key] for key in keys if key in metrics},
        "samples_per_second": sum(entry["samples"] for entry in log) / seconds if seconds else None,
    }


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    try:
        write_json(path, rows)
    except OSError as error:
        raise RunError(f"{path} could not be written: {error.strerror}.") from None


def _check_fields(fields: Sequence[str], kind: str | None) -> None:
    if kind is not None and kind not in KINDS:
        raise InputError(f"There is nothing to fit --as {kind!r}; known: {', '.join(KINDS)}.")
    if not fields:
        raise InputError("Name the fields to compare, as --fields hashgrid,kplanes.")
    for name in fields:
        preset(name, kind or "radiance")
    if len(set(fields)) < len(fields):
        raise InputError(f"Each field is compared once, but --fields is {','.join(fields)}.")


def _sections(config: dict[str, Any]) -> dict[str, Any]:
    """Give "field", "train", and of posed images "render", of the config of a run."""
    model = config["model"] if isinstance(config.get("model"), dict) else {}
    sections = {**model, "train": config.get("train")}
    keys = ("field", "render", "train")
    return {key: sections[key] for key in keys if isinstance(sections.get(key), dict)}


def _spelled(
    name: str,
    kind: str | None,
    length: Length,
    changes: Sequence[str],
    seen: tuple[dict[str, Any], float | None],
) -> dict[str, Any]:
    """Give the same sections of the config that a field would have now, with every key.

    What it has from its scene is `seen`: how rays are sampled, and the pixels that span its domain.
    """
    budget, steps = length
    if kind is not None:
        return spell_signal(kind, name, (steps, budget), changes, None)
    render, pixels = seen
    settings = [*plan_settings(name, (steps, budget), pixels=pixels), *changes]
    model, training = spell_out(name, settings, ({}, render), None)
    return {**model, "train": training}


def _check_built(kind: str, wished: dict[str, Any]) -> None:
    """Refuse a field that cannot be built, does not fit into memory or cannot be trained so, before it takes any."""
    parts = {"field": wished["field"], "domain": _SOME_DOMAIN[kind]}
    check_memory(kind, parts)
    if kind == "radiance":
        with torch.device("meta"):  # shapes only
            model = build_model(kind, parts)
        check_training(model, from_json(RadianceTraining, wished["train"], "train"))
