"""Training several fields alike on one thing, and laying side by side what came of it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyfield.datasets.fingerprint import file_fingerprint
from polyfield.datasets.wishes import positive_seconds, whole_number
from polyfield.errors import ConfigError, InputError, RunError
from polyfield.fields import model_file
from polyfield.fields.presets import preset
from polyfield.files import write_json
from polyfield.training.api import train
from polyfield.training.comparison_page import Shown, comparison_page
from polyfield.training.fit import KINDS, fit, kind_of, spell_signal
from polyfield.training.loop import Control
from polyfield.training.progress import Progress
from polyfield.training.run_config import plan_settings, spell_out
from polyfield.training.run_folder import RunFolder
from polyfield.training.running import Tell, TrainResult, model_facts

__all__ = ["Comparison", "compare", "comparison_row"]

_TABLE = "comparison.json"
_PAGE = "comparison.html"
_SOME_BOX = {
    "low": [-1.0, -1.0, -1.0],
    "high": [1.0, 1.0, 1.0],
}  # settings are read without a scene


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
        resume: Keep the runs in `out` that are done, go on with one that is not; all else must be as it was.
        overwrite: Replace the runs in `out`.
        threads: Number of threads.
        on_progress: Told how it goes.
        control: Stops from outside.

    Raises:
        InputError: Something that was given cannot be used.
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
    length = (budget, steps)
    begun = {}
    for name in there:
        begun[name] = _config(out / name)
        length = _length_as_begun(out / name, begun[name], source, kind, seed, length)
    if length == (None, None):
        length = (60.0, None)
    for name in fields:  # what the last would refuse is refused before the first is trained
        was = _sections(begun.get(name, {}))
        wished = _spelled(name, kind, length, changes, was.get("render", _SOME_BOX))
        _check_alike(out / name, was, wished)

    def run(name: str) -> TrainResult:
        folder = out / name
        going_on = name in begun
        metrics = RunFolder.open(folder).read_metrics() if going_on else None
        if isinstance(metrics, dict) and isinstance(metrics.get("steps"), int):
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

    rows, interrupted = [], False
    for number, name in enumerate(fields):
        on_progress(Progress(message=f"Field {number + 1} of {len(fields)}: {name}."))
        row, interrupted = _row(name, run)
        if interrupted:
            break
        rows.append(row)
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


def _row(name: str, run: Callable[[str], TrainResult]) -> tuple[dict[str, Any], bool]:
    try:
        result = run(name)
    except RunError as error:
        return {"field": name, "failed": str(error)}, False
    if result.interrupted:
        return {}, True
    return comparison_row(result) | {"field": name}, False


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


def _config(folder: Path) -> dict[str, Any]:
    """Read the config of a run; one that is no object says nothing."""
    config = RunFolder.open(folder).read_config()
    return config if isinstance(config, dict) else {}


def _length_as_begun(
    folder: Path,
    config: dict[str, Any],
    source: Path | str,
    kind: str | None,
    seed: int,
    length: tuple[float | None, int | None],
) -> tuple[float | None, int | None]:
    """Refuse to go on with a run of something else, or of another length or seed: what is compared is trained alike.

    Returns:
        The run's budget and steps.
    """
    anew = "choose another --out, or replace the runs with --overwrite."
    same = config.get("fit") == kind
    if kind is None:
        same = same and _last_name(config.get("scene")) == _last_name(source)
    elif Path(source).is_file():
        same = same and config.get("fingerprint") == file_fingerprint(source)
    if not same:
        given = source if kind is None else f"{source} --as {kind}"
        raise InputError(f"{folder} is a run of something else than {given}; {anew}")
    budget, steps = config.get("budget"), config.get("steps")
    begun = (
        None if budget is None else positive_seconds(budget, f"The budget in {folder}/config.json"),
        None if steps is None else whole_number(steps, f"steps in {folder}/config.json", 1),
    )
    if config.get("seed") != seed or length not in ((None, None), begun):
        raise InputError(
            f"{folder} has seed {config.get('seed')} and a plan of {_told(begun)}, which is not what is asked for; "
            f"ask for the same, {anew}"
        )
    return begun


def _last_name(source: object) -> str:
    return "builtin" if source is None else Path(str(source)).name


def _told(length: tuple[float | None, int | None]) -> str:
    budget, steps = length
    return f"{budget:g} seconds" if budget is not None else f"{steps} steps"


def _sections(config: dict[str, Any]) -> dict[str, Any]:
    """Give "field", "train", and of posed images "render", of the config of a run."""
    model = config["model"] if isinstance(config.get("model"), dict) else {}
    sections = {**model, "train": config.get("train")}
    keys = ("field", "render", "train")
    return {key: sections[key] for key in keys if isinstance(sections.get(key), dict)}


def _spelled(
    name: str,
    kind: str | None,
    length: tuple[float | None, int | None],
    changes: Sequence[str],
    render: dict[str, Any],
) -> dict[str, Any]:
    """Give the same sections of the config that a field would have now, with every key; `render` is its scene's."""
    budget, steps = length
    try:
        if kind is not None:
            return spell_signal(kind, name, (steps, budget), changes, None)
        settings = [*plan_settings(name, steps, budget), *changes]
        model, training = spell_out(name, settings, ({}, render), None)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    return {**model, "train": training}


def _check_alike(folder: Path, was: dict[str, Any], wished: dict[str, Any]) -> None:
    """Refuse to go on with a run that was begun with other settings than are asked for."""
    found = _difference(was, wished)
    if found is not None:
        key, *values = found
        old, new = (json.dumps(value)[:60] for value in values)
        raise InputError(
            f"{folder} was begun with {key[1:]}={old}, but now that is {new}; give the same --set, choose another "
            "--out, or replace the runs with --overwrite."
        )


def _difference(begun: Any, wished: Any) -> tuple[str, Any, Any] | None:
    """Find the first key in which both differ; one that only one of two versions of Polyfield knows is none."""
    if not isinstance(begun, dict) or not isinstance(wished, dict):
        return None if begun == wished else ("", begun, wished)
    for key in begun:
        found = _difference(begun[key], wished[key]) if key in wished else None
        if found is not None:
            return f".{key}{found[0]}", *found[1:]
    return None
