"""Fitting fields to signals as a function: what `polyfield fit` calls.

A kind of fit is a module beside this one, `fit_KIND`, which offers MODEL, `load`, `domain`, `batches`, `measure` and
`protocol`, as `fit_image` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from polyfield import __version__, native
from polyfield.config import from_json, to_json
from polyfield.datasets.mesh_file import FORMATS
from polyfield.datasets.picture_source import PictureSource
from polyfield.datasets.wishes import positive_seconds, whole_number
from polyfield.errors import ConfigError, InputError, nearest
from polyfield.fields.model import Model, build_model
from polyfield.fields.presets import preset
from polyfield.fields.signal import SignalConfig
from polyfield.files import read_json
from polyfield.training.loop import Control
from polyfield.training.memory import check_memory
from polyfield.training.progress import Progress
from polyfield.training.run_config import plan_settings, spell_sections
from polyfield.training.run_folder import RunFolder
from polyfield.training.running import (
    Tell,
    TrainResult,
    Watch,
    as_grown,
    keep_metrics,
    model_facts,
    run_task,
    use_threads,
)
from polyfield.training.saved_run import SavedRun
from polyfield.training.schedule import plan_for
from polyfield.training.signal import SignalTask, SignalTraining

__all__ = ["KINDS", "FitConfig", "evaluate_fit", "fit", "kind_of", "spell_signal"]

KINDS = ("image", "sphere", "sdf", "udf", "occupancy")
"""What can be fitted."""


@dataclass(frozen=True)
class FitConfig(SavedRun):
    """What config.json of a fit holds.

    Attributes:
        fit: One of `KINDS`.
        file: Path of what is fitted when the run was started, a hint.
        train: As `SignalTraining`.
    """

    fit: str
    file: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fit not in KINDS:
            raise ConfigError(f"There is no fit {self.fit!r}.{nearest(self.fit, KINDS)}")


def fit(
    file: Path | str | None,
    *,
    kind: str | None = None,
    out: Path | str,
    field: str = "hashgrid",
    budget: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    precision: str | None = None,
    changes: Sequence[str] = (),
    save_every: float = 300.0,
    resume: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    on_progress: Tell = lambda _: None,
    control: Control | None = None,
) -> TrainResult:
    """Fit a field to a signal.

    Args:
        file: An image ("sphere": of longitude and latitude), or a mesh; with `resume` None, for the file that the run
            names.
        kind: One of `KINDS`; None: "sdf" for a mesh, else "image". Not given with `resume`.
        out: Run folder.
        field: Name of a preset for this kind.
        budget, steps: How long: seconds (60 where neither is given), or steps. Not given with `resume`.
        seed: The same seed, number of steps, machine and number of threads give the same bits.
        precision: "fp32" or "bf16" for the field's head.
        changes: Settings such as "field.encoder.levels=8".
        save_every: Most seconds between saves; the first ones come sooner.
        resume: Go on with the run in `out`.
        overwrite: Replace the run in `out`.
        threads: Number of threads; None: as torch has it.
        on_progress: Told how it goes.
        control: Stops, pauses or saves from outside.

    Returns:
        Where the run lies and how it ended; its metrics say how good the field is.

    Raises:
        InputError: Something that was given cannot be used.
        RunError: The run failed; what was saved can be resumed.

    Example:
        >>> import polyfield
        >>> run = polyfield.fit("photo.png", kind="image", out="runs/photo")  # doctest: +SKIP
    """
    use_threads(threads)
    save_every = positive_seconds(save_every, "--save-every")
    if resume:
        config = _config_of(RunFolder.open(out).read_config(), out)
        RunFolder.check(out, resume=True)
        config = replace(config, model=as_grown(config.model, RunFolder.open(out)))
        fits = _fits(config.fit)
        signal = fits.load(config.file if file is None else file)
        if signal.fingerprint != config.fingerprint:
            raise InputError(
                f"{signal.name} is not what this run was started with; start a new run, or name the right file."
            )
        plan = plan_for(steps, budget, config)
    else:
        if file is None:
            raise InputError("polyfield fit needs a FILE to fit.")
        plan = plan_for(steps, budget)
        fits = _fits(kind_of(file) if kind is None else kind)
        RunFolder.check(out, overwrite=overwrite)
        signal = fits.load(file)
        config = _spell_out(fits, signal, field, (plan.steps, plan.budget), changes, precision)
        config = replace(
            config,
            file=str(Path(file).resolve()),
            seed=whole_number(seed, "--seed", 0, 2**31 - 1),
        )
    signal = _as_seen(signal, config)
    plan.start()
    task = _task(config, fits, signal)
    with RunFolder.create(out, overwrite=overwrite, resume=resume) as folder:
        if not resume:
            folder.write_config(to_json(config))
        watch = Watch(on_progress, control or Control(), save_every)
        result = run_task(task, plan, task.training.schedule, folder, watch)
        if result.interrupted:
            return result
        on_progress(Progress(message="Comparing."))
        metrics = _measure(fits, task.model, signal, folder.model_path, folder.renders())
        keep_metrics(metrics, folder, on_progress)
        return replace(result, metrics=metrics)


def evaluate_fit(
    run: Path, model: Model, file: Path | str | None, save_images: bool, tell: Tell
) -> dict[str, Any]:
    """Compare a fit with what it was fitted to.

    Args:
        run: Run folder or field file.
        model: What it holds.
        file: Where what it was fitted to is now; None: where the run found it.
        save_images: Whether to save pictures to the run's folder renders.
        tell: Told how it goes.

    Returns:
        What metrics.json holds; for a run folder it is written there, if that can be written to.

    Raises:
        InputError: It is not known to what it was fitted, or that is something else now.
    """
    folder = RunFolder(run if run.is_dir() else run.parent, None)
    config_file = folder.path / "config.json"
    config = _config_of(read_json(config_file), run) if config_file.exists() else None
    if file is None and config is None:
        raise InputError(f"{run} does not say what it was fitted to; name it with --scene.")
    fits = _fits(model.kind)
    signal = fits.load(config.file if file is None and config is not None else file)
    same = config is not None and signal.fingerprint == config.fingerprint
    if file is None and not same:
        raise InputError(
            f"{signal.name} is not what this run was fitted to; name a file with --scene to compare it all the same."
        )
    if same and config is not None:
        signal = _as_seen(signal, config)
    place = folder.model_path if run.is_dir() else run
    metrics = _measure(fits, model, signal, place, folder.renders() if save_images else None)
    if same and run.is_dir():
        keep_metrics(metrics, folder, tell)
    return metrics


def _measure(
    fits: Any, model: Model, signal: Any, file: Path, pictures: Path | None
) -> dict[str, Any]:
    return {
        "field": model.info.get("preset"),
        "scene": signal.name,
        "fit": model.kind,
        **fits.measure(model, signal, pictures),
        **model_facts(model, file),
    }


def kind_of(file: Path | str) -> str:
    """What a file is fitted as where nothing else is said."""
    mesh = Path(file).suffix.lower().removeprefix(".") in FORMATS
    return "sdf" if mesh else "image"


def _fits(kind: str) -> Any:
    if kind not in KINDS:
        raise InputError(f"There is nothing to fit --as {kind!r}.{nearest(kind, KINDS)}")
    return import_module(f"polyfield.training.fit_{kind}")


def _config_of(data: Any, run: Path | str) -> FitConfig:
    if isinstance(data, dict) and "fit" not in data:
        raise InputError(f"{run} was made by polyfield train, not by polyfield fit.")
    return from_json(FitConfig, data, "config.json")


def _as_seen(signal: Any, config: FitConfig) -> Any:
    """Let the field learn from no more of a signal than its config says."""
    every = from_json(SignalTraining, config.train, "train").every
    if every == 1:
        return signal
    if not isinstance(signal, PictureSource):
        raise ConfigError(
            f"train.every = {every} leaves out rows and columns of an image, but {signal.name} is a mesh; take 1."
        )
    return replace(signal, every=every)


def spell_signal(
    kind: str,
    field: str,
    length: tuple[int | None, float | None],
    changes: Sequence[str],
    precision: str | None,
) -> dict[str, Any]:
    """Turn a preset of a signal field into configs in which every key is there.

    Args:
        kind: One of `KINDS`.
        field: Name of the preset.
        length: Steps or seconds of the run.
        changes: Settings such as "field.encoder.levels=8"; the later ones win.
        precision: "fp32" or "bf16" for the field's head, or None to leave it as it is.

    Returns:
        "field" as `SignalConfig`, "train" as `SignalTraining`.

    Raises:
        ConfigError: An unknown preset, key, value or precision.
    """
    base = preset(field, kind)
    sections = {"field": base["field"], "train": base["train"]}
    readers = {"field": SignalConfig, "train": SignalTraining}
    settings = [*plan_settings(field, length, kind), *changes]
    return spell_sections(sections, readers, settings, precision)


def _spell_out(
    fits: Any,
    signal: Any,
    field: str,
    length: tuple[int | None, float | None],
    changes: Sequence[str],
    precision: str | None,
) -> FitConfig:
    kind = fits.MODEL
    spelled = spell_signal(kind, field, length, changes, precision)
    return FitConfig(
        fit=kind,
        preset=field,
        file="",
        fingerprint=signal.fingerprint,
        seed=0,
        steps=length[0],
        budget=length[1],
        model={"kind": kind, "field": spelled["field"], "domain": fits.domain(signal)},
        train=spelled["train"],
        version=__version__,
    )


def _task(config: FitConfig, fits: Any, signal: Any) -> SignalTask:
    if native.available():
        native.core().keep_memory()
    parts = {key: config.model[key] for key in ("field", "domain")}
    check_memory(config.model["kind"], parts)
    model = build_model(config.model["kind"], parts, config.seed)
    model.info = {"preset": config.preset, "scene": signal.name, "protocol": fits.protocol(signal)}
    training = from_json(SignalTraining, config.train, "train")
    return SignalTask(model, fits.batches(signal), training, config.seed)
