"""Converting a radiance field into another architecture, as a function: what `polyfield convert` calls."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from polyfield import __version__, native
from polyfield.config import from_json, to_json
from polyfield.datasets.scene import Scene, fingerprint_difference
from polyfield.datasets.wishes import positive_seconds, whole_number
from polyfield.errors import ConfigError, InputError
from polyfield.fields import model_file
from polyfield.fields.model import Model, build_model, require_pointwise
from polyfield.fields.presets import preset
from polyfield.fields.radiance import RadianceConfig, RadianceField
from polyfield.renderers.volume import VolumeConfig
from polyfield.training.capture import captured_cameras, captured_views
from polyfield.training.distillation import Distillation, DistillationTask, same_features
from polyfield.training.likeness import likeness
from polyfield.training.loop import Control
from polyfield.training.measuring import measure, prune_saved, trained_downscale
from polyfield.training.memory import check_memory
from polyfield.training.progress import Progress
from polyfield.training.run_config import (
    ConversionConfig,
    RunConfig,
    plan_settings,
    read_run_config,
    spell_sections,
)
from polyfield.training.run_folder import RunFolder
from polyfield.training.run_scene import Source, find_again, hint_of, load_source
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
from polyfield.training.schedule import Plan, plan_for
from polyfield.training.sharpness import pixels_across
from polyfield.training.teacher import Lessons
from polyfield.training.viewpoints import viewpoints

__all__ = ["convert"]


def convert(
    run: Path | str | None,
    *,
    to: str = "hashgrid",
    out: Path | str,
    budget: float | None = None,
    steps: int | None = None,
    scene: Source | None = None,
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
    """Turn a radiance field into one of another architecture, without images.

    Args:
        run: The teacher: a run folder or a field file; with `resume` None, for the one that the run names.
        to: Name of a preset.
        out: Run folder.
        budget, steps: How long: seconds (60 where neither is given), or steps. Not given with `resume`.
        scene: The scene that the teacher was trained on: it is then looked at from just the training views, and both
            are compared with the test images. None: it is looked at from near the cameras of its capture.
        seed: The same seed, number of steps, machine and number of threads give the same bits.
        precision: "fp32" or "bf16" for the field's heads.
        changes: Settings such as "field.encoder.levels=8".
        save_every: Most seconds between saves; the first ones come sooner.
        resume: Go on with the run in `out`.
        overwrite: Replace the run in `out`.
        threads: Number of threads; None: as torch has it.
        on_progress: Told how it goes.
        control: Stops, pauses or saves from outside.

    Returns:
        Where the run lies and how it ended. Its metrics are those of `evaluate`, where a scene was given, and
        "psnr_to_teacher", "teacher" with the teacher's "psnr" (None without a scene), "field" and "bytes".

    Raises:
        InputError: Something that was given cannot be used: no such field, one that is not a radiance field or has no
            value at a single point, one that shows nothing, another scene.
        RunError: The run failed; what was saved can be resumed.

    Example:
        >>> import polyfield
        >>> run = polyfield.convert("runs/lego", to="tensorf", out="runs/lego-tensorf")  # doctest: +SKIP
    """
    use_threads(threads)
    save_every = positive_seconds(save_every, "--save-every")
    if resume:
        config = _config_of(out)
        plan = plan_for(steps, budget, config)
        RunFolder.check(out, resume=True)
        config = replace(config, model=as_grown(config.model, RunFolder.open(out)))
        taught = _load(config.teacher if run is None else run)
        if taught.fingerprint != config.taught_by:
            raise InputError(
                f"{taught.file} is not the field that {out} learns from; name the right one, or start a new run."
            )
        loaded = None
        if config.from_scene:
            loaded, differs = find_again(scene, config, on_progress, out)
            _refuse_other(loaded, differs, taught)
        elif scene is not None:
            raise InputError(f"{out} was begun without --scene: go on without.")
    else:
        if run is None:
            raise InputError("polyfield convert needs a RUN, or a field file, to convert.")
        plan = plan_for(steps, budget)
        RunFolder.check(out, overwrite=overwrite)
        taught = _load(run)
        student = _spell_out(to, taught.model, plan, changes, precision)
        loaded = None if scene is None else _scene_of(taught, scene, on_progress)
        seed = whole_number(seed, "--seed", 0, 2**31 - 1)
        config = _configure(to, taught, student, (scene, loaded), plan, seed)
    _refuse_own(taught, Path(out))
    plan.start()
    task = _task(config, taught, loaded)
    if plan.budget is not None and not resume and not _sets(changes, "train.uses"):
        config = replace(config, train={**config.train, "uses": task.pace()})
    with RunFolder.create(out, overwrite=overwrite, resume=resume) as folder:
        if not resume:
            folder.write_config(to_json(config))
        watch = Watch(on_progress, control or Control(), save_every)
        result = run_task(task, plan, task.training.schedule, folder, watch)
        if result.interrupted:
            return result
        prune_saved(task.model, folder, task.training.prune)
        metrics = _report(task.model, taught, loaded, folder, on_progress)
        keep_metrics(metrics, folder, on_progress)
        return replace(result, metrics=metrics)


@dataclass(frozen=True)
class _Taught:
    """A teacher, where it lies, its file's fingerprint, and the config of its run where there is one."""

    model: Model
    file: Path
    fingerprint: str
    config: RunConfig | None


def _load(run: Path | str) -> _Taught:
    path = Path(run)
    model = model_file.load(path)
    _field_of(model)
    require_pointwise(model, "Conversion")
    file = path / "field.safetensors" if path.is_dir() else path
    config = None
    if path.is_dir() and (path / "config.json").exists():
        config = read_run_config(RunFolder.open(path).read_config(), path)
    with file.open("rb") as data:
        fingerprint = hashlib.file_digest(data, "sha256").hexdigest()[:16]
    return _Taught(model, file, fingerprint, config)


def _sets(changes: Sequence[str], key: str) -> bool:
    return any(change.partition("=")[0].strip() == key for change in changes)


def _field_of(model: Model) -> RadianceField:
    if not isinstance(model.module, RadianceField):
        raise InputError(
            f"This is a field of kind {model.kind!r}; only radiance fields, as polyfield train makes them, can be "
            "converted."
        )
    return model.module


def _config_of(out: Path | str) -> ConversionConfig:
    config = read_run_config(RunFolder.open(out).read_config(), out)
    if not isinstance(config, ConversionConfig):
        raise InputError(f"{out} was made by polyfield train, not by polyfield convert.")
    return config


def _refuse_own(taught: _Taught, out: Path) -> None:
    """A run folder that is replaced while it is read from would be lost."""
    if out.exists() and taught.file.resolve().parent == out.resolve():
        raise InputError(f"{out} holds the field that is to be converted; choose another --out.")


def _scene_of(taught: _Taught, source: Source, tell: Tell) -> Scene:
    """Load the scene that a teacher was trained on."""
    config = taught.config
    format = config.format if config is not None and str(source) == config.scene else None
    scene = load_source(source, format, trained_downscale(taught.model), tell)
    recorded = taught.model.info.get("fingerprint")
    differs = fingerprint_difference(str(recorded), scene.fingerprint) if recorded else None
    _refuse_other(scene, differs, taught)
    return scene


def _refuse_other(scene: Scene, differs: str | None, taught: _Taught) -> None:
    if differs:
        raise InputError(
            f"{scene.name} is not what {taught.file} was trained on (the {differs} differ): a field lives in the "
            "domain of its own scene. Leave --scene away, or name the right one."
        )


def _configure(
    to: str,
    taught: _Taught,
    student: dict[str, Any],
    given: tuple[Source | None, Scene | None],
    plan: Plan,
    seed: int,
) -> ConversionConfig:
    """Build the config of a conversion: its scene is the one that was given, else what the teacher's run names."""
    source, scene = given
    config = taught.config
    named = format = None
    fingerprint = str(taught.model.info.get("fingerprint", ""))
    if scene is not None:
        named, format, fingerprint = hint_of(source), scene.format, scene.fingerprint
    elif config is not None:
        named, format = config.scene, config.format
    return ConversionConfig(
        preset=to,
        scene=named,
        format=format,
        downscale=trained_downscale(taught.model),
        fingerprint=fingerprint,
        background="random" if config is None else config.background,
        seed=seed,
        steps=plan.steps,
        budget=plan.budget,
        **student,
        version=__version__,
        teacher=str(taught.file.resolve()),
        taught_by=taught.fingerprint,
        from_scene=scene is not None,
    )


def _spell_out(
    to: str,
    teacher: Model,
    plan: Plan,
    changes: Sequence[str],
    precision: str | None,
) -> dict[str, Any]:
    """Spell out the student: the preset's field, in the teacher's domain and with the teacher's cells.

    Of how the preset is trained on images that is taken which teaching knows too.
    """
    base = preset(to)
    known = {field.name for field in fields(Distillation)}

    def holds(setting: str) -> bool:
        section, _, key = setting.partition("=")[0].partition(".")
        return section == "field" or (section == "train" and key in known)

    sections = {
        "field": base["field"],
        "render": teacher.config["render"],
        "train": {key: value for key, value in base["train"].items() if key in known},
    }
    readers = {"field": RadianceConfig, "render": VolumeConfig, "train": Distillation}
    pixels = _pixels(teacher)
    planned = plan_settings(to, (plan.steps, plan.budget), pixels=pixels)
    planned = [setting for setting in planned if holds(setting)]
    settings = [*planned, *base.get("taught", ()), *changes]
    spelled = spell_sections(sections, readers, settings, precision)
    for key in ("low", "high", "levels", "resolution"):
        if spelled["render"][key] != to_json(from_json(VolumeConfig, sections["render"]))[key]:
            raise ConfigError(
                f"render.{key} cannot change in a conversion: the occupancy is the teacher's."
            )
    model = {"kind": base["kind"], "domain": teacher.config["domain"]}
    return {
        "model": model | {key: spelled[key] for key in ("field", "render")},
        "train": spelled["train"],
        "pixels": pixels,
    }


def _pixels(teacher: Model) -> float | None:
    """How many pixels of its capture span the teacher's domain; None where it has no capture."""
    views = captured_views(teacher, "train")
    if not views:
        return None
    return pixels_across(captured_cameras(teacher), views, teacher.config["domain"])


def _task(config: ConversionConfig, taught: _Taught, scene: Scene | None) -> DistillationTask:
    """Build the student and what teaches it."""
    if native.available():
        native.core().keep_memory()
    parts = {key: config.model[key] for key in ("field", "domain", "render")}
    check_memory("radiance", parts)
    teacher = taught.model
    student = build_model("radiance", parts, config.seed)
    student.background, student.capture = teacher.background, teacher.capture
    student.info = {**teacher.info, "preset": config.preset}
    training = from_json(Distillation, config.train, "train")
    if scene is not None and not scene.split["train"]:
        raise InputError(f"{scene.name} has no training views to look from; leave --scene away.")
    cameras = None if scene is None else (scene.cameras, list(scene.split["train"]))
    views = viewpoints(teacher, cameras)
    lessons = Lessons(
        teacher,
        views,
        config.seed,
        uses=training.uses,
        min_transmittance=training.min_transmittance,
        features=training.features > 0 and same_features(_field_of(teacher), _field_of(student)),
        active=training.active,
    )
    if not lessons.show_something():
        raise InputError(
            f"{taught.file} shows nothing: no ray meets any density, so there is nothing to learn from it."
        )
    return DistillationTask(student, lessons, training, None, config.seed)


def _report(
    student: Model, taught: _Taught, scene: Scene | None, folder: RunFolder, tell: Tell
) -> dict[str, Any]:
    """Measure the student against its teacher, and both against the photographs where there are some."""
    tell(Progress(message="Comparing."))
    file, teacher = folder.model_path, taught.model
    facts: dict[str, Any] = {
        "field": student.info["preset"],
        "scene": student.info.get("scene"),
        "psnr": None,
        "ssim": None,
        **model_facts(student, file),
    }
    shown: dict[str, Any] = {
        "field": teacher.info.get("preset"),
        "psnr": None,
        "bytes": taught.file.stat().st_size,
    }
    if scene is not None and scene.split["test"]:
        facts = measure(student, scene, file, tell)
        shown["psnr"] = measure(teacher, scene, taught.file, tell)["psnr"]
    quality, views = likeness(student, teacher)
    return {**facts, "psnr_to_teacher": quality, "views_of_teacher": views, "teacher": shown}
