"""Training and evaluation as functions: what the commands call."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from polyfield import __version__, native
from polyfield.config import from_json, to_json
from polyfield.datasets.scene import Scene
from polyfield.datasets.wishes import positive_seconds, whole_number
from polyfield.errors import DataError, InputError
from polyfield.fields import model_file
from polyfield.fields.model import build_model
from polyfield.fields.presets import preset
from polyfield.training.capture import describe_capture
from polyfield.training.fit import KINDS, evaluate_fit
from polyfield.training.loop import Control
from polyfield.training.measuring import measure, prune_saved, trained_downscale
from polyfield.training.memory import check_memory
from polyfield.training.placement import place
from polyfield.training.progress import Progress
from polyfield.training.radiance import RadianceTask, RadianceTraining
from polyfield.training.run_config import (
    BACKGROUNDS,
    ConversionConfig,
    RunConfig,
    plan_settings,
    read_run_config,
    spell_out,
)
from polyfield.training.run_folder import RunFolder
from polyfield.training.run_scene import Source, find_again, hint_of, load_source
from polyfield.training.running import (
    Tell,
    TrainResult,
    Watch,
    as_grown,
    keep_metrics,
    run_task,
    use_threads,
)
from polyfield.training.schedule import plan_for
from polyfield.training.sharpness import pixels_across

__all__ = ["TrainResult", "evaluate", "train"]


def train(
    scene: Source | None,
    *,
    out: Path | str,
    field: str = "hashgrid",
    budget: float | None = None,
    steps: int | None = None,
    downscale: int = 1,
    background: str = "random",
    format: str | None = None,
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
    """Fit a radiance field to posed images.

    Args:
        scene: A folder or file in a known format, a scene, or None for the built-in one (with `resume`: the scene
            that the run names).
        out: Run folder.
        field: Name of a preset.
        budget, steps: How long: seconds (60 where neither is given), or steps. Not given with `resume`.
        downscale: Reduce the images by this factor, for training and evaluation. A scene in memory stays as it is.
        background: What to put behind transparent pixels: "random", "white" or "black".
        format: Read the scene as this format.
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
        Where the run lies and how it ended.

    Raises:
        InputError: Something that was given cannot be used.
        RunError: The run failed; what was saved can be resumed.

    Example:
        >>> import polyfield
        >>> run = polyfield.train("scenes/lego", out="runs/lego", budget=60)  # doctest: +SKIP
    """
    use_threads(threads)
    save_every = positive_seconds(save_every, "--save-every")
    if resume:
        config = read_run_config(RunFolder.open(out).read_config(), out)
        if isinstance(config, ConversionConfig):
            raise InputError(f"{out} was made by polyfield convert: go on with that.")
        plan = plan_for(steps, budget, config)
        RunFolder.check(out, resume=True)
        config = replace(config, model=as_grown(config.model, RunFolder.open(out)))
        loaded, differs = find_again(scene, config, on_progress, out)
        if differs:
            raise InputError(
                f"{loaded.name} is not the scene that this run was started with (the {differs} "
                "differ); start a new run, or name the right scene."
            )
        _, _, why = place(loaded)
    else:
        plan = plan_for(steps, budget)
        RunFolder.check(out, overwrite=overwrite)
        preset(field)  # an unknown one is refused before anything is read
        loaded = load_source(scene, format, downscale, on_progress)
        domain, render, why = place(loaded)
        pixels = pixels_across(loaded.cameras, loaded.split["train"], domain)
        planned = plan_settings(field, (plan.steps, plan.budget), pixels=pixels)
        model_config, training = spell_out(field, [*planned, *changes], (domain, render), precision)
        config = RunConfig(
            preset=field,
            scene=hint_of(scene),
            format=format,
            downscale=loaded.images.downscale,
            fingerprint=loaded.fingerprint,
            background=background,
            seed=whole_number(seed, "--seed", 0, 2**31 - 1),
            steps=plan.steps,
            budget=plan.budget,
            model=model_config,
            train=training,
            version=__version__,
            pixels=pixels,
        )
    plan.start()
    on_progress(Progress(message=why))
    # All that can be refused is built before an older run in the folder is touched.
    task = _task(config, loaded)
    with RunFolder.create(out, overwrite=overwrite, resume=resume) as folder:
        if not resume:
            folder.write_config(to_json(config))
        watch = Watch(on_progress, control or Control(), save_every)
        result = run_task(task, plan, task.training.schedule, folder, watch)
        if not result.interrupted:
            prune_saved(task.model, folder, task.training.prune)
        if result.interrupted or not loaded.split["test"]:
            return result
        metrics = measure(task.model, loaded, folder.model_path, on_progress)
        keep_metrics(metrics, folder, on_progress)
        return replace(result, metrics=metrics)


def _task(config: RunConfig, scene: Scene) -> RadianceTask:
    """Build the model of a run and what trains it."""
    if native.available():
        native.core().keep_memory()
    parts = {key: config.model[key] for key in ("field", "domain", "render")}
    check_memory(config.model["kind"], parts)
    model = build_model(config.model["kind"], parts, config.seed)
    shown = BACKGROUNDS[config.background]
    model.background = (1.0, 1.0, 1.0) if shown is None else shown
    model.capture, model.info = describe_capture(scene)
    model.info["preset"] = config.preset
    model.info["protocol"] = _protocol(config, scene)
    training = from_json(RadianceTraining, config.train, "train")
    return RadianceTask(model, scene, training, shown, config.seed)


def _protocol(config: RunConfig, scene: Scene) -> dict[str, Any]:
    return {
        "downscale": config.downscale,
        "background": "white" if config.background == "random" else config.background,
        "color_space": "srgb",
        "holdout": scene.holdout,
    }


def evaluate(
    run: Path | str,
    *,
    scene: Source | None = None,
    split: str = "test",
    save_images: bool = False,
    lpips: Path | None = None,
    threads: int | None = None,
    on_progress: Tell = lambda _: None,
) -> dict[str, Any]:
    """Evaluate a run on the views of its scene.

    Args:
        run: Run folder or field file.
        scene: Where the scene is now, or the scene; None: where the run found it.
        split: "train", "val" or "test".
        save_images: Whether to save the pictures to the run's folder renders.
        lpips: File with weights of LPIPS; None: it is not computed.
        threads: Number of threads.
        on_progress: Told how it goes.

    Returns:
        What metrics.json holds; for a run folder and the test views it is written there, if that can be written to.

    Raises:
        InputError: There is no run, no scene, or nothing in the split.
    """
    use_threads(threads)
    run = Path(run)
    model = model_file.load(run)
    if model.kind in KINDS:
        if isinstance(scene, Scene) or lpips is not None:
            raise InputError(f"{run} is fitted to an {model.kind}: compare it with a file.")
        return evaluate_fit(run, model, scene, save_images, on_progress)
    file = run / "field.safetensors" if run.is_dir() else run
    config_file = file.parent / "config.json"
    config = None
    if config_file.exists():
        config = read_run_config(RunFolder.open(file.parent).read_config(), run)
    if scene is None and config is None:
        raise InputError(f"{run} does not say which scene it was trained on; name it with --scene.")
    if config is None:
        loaded, differs = load_source(scene, None, trained_downscale(model), on_progress), None
    else:
        loaded, differs = find_again(scene, config, on_progress, run)
    if differs and scene is None:
        raise InputError(
            f"{loaded.name} is not what this run was trained on (the {differs} differ); "
            "name a scene with --scene to evaluate on it all the same."
        )
    pictures = None
    if save_images:
        pictures = RunFolder(file.parent, None).renders()
    metrics = measure(model, loaded, file, on_progress, split, pictures, lpips)
    # Figures from another scene are told, but do not replace the run's own.
    own = config is not None and not differs
    if own and run.is_dir() and split == "test":
        folder = RunFolder.open(run)
        keep_metrics({**_still_true(config, folder), **metrics}, folder, on_progress)
    return metrics


def _still_true(config: RunConfig | None, folder: RunFolder) -> dict[str, Any]:
    """What a conversion's metrics.json says of its teacher, which an evaluation does not."""
    if not isinstance(config, ConversionConfig):
        return {}
    with suppress(DataError):  # a broken file is replaced by a whole one
        before = folder.read_metrics()
        if isinstance(before, dict):
            return before
    return {}
