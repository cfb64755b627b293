"""Running a task in a run folder: from its first step or its last save to the end of its plan."""

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from polyfield.datasets.wishes import whole_number
from polyfield.errors import DataError, RunError
from polyfield.fields import model_file
from polyfield.fields.model import Model
from polyfield.fields.packed_rows import stored_values
from polyfield.training.loop import Control, Loop
from polyfield.training.progress import Progress
from polyfield.training.run_folder import RunFolder
from polyfield.training.schedule import Plan, Rate
from polyfield.training.task import Task

__all__ = [
    "Tell",
    "TrainResult",
    "Watch",
    "as_grown",
    "keep_metrics",
    "model_facts",
    "run_task",
    "use_threads",
]

Tell = Callable[[Progress], None]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        run: Its folder.
        step: Steps done.
        interrupted: Whether it was asked to stop before its plan was done; it is saved and can be resumed.
        metrics: As in metrics.json; empty when it was interrupted or nothing is held out.
    """

    run: Path
    step: int
    interrupted: bool
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Watch:
    """Who watches a run, and how often it is saved.

    Attributes:
        tell: Told how it goes.
        control: Stops, pauses or saves from outside.
        save_every: Most seconds between saves.
    """

    tell: Tell
    control: Control
    save_every: float


def as_grown(model: dict[str, Any], folder: RunFolder) -> dict[str, Any]:
    """Give a run's model config with the field as it was when it was saved: it may have grown since the run began."""
    field = folder.state_values().get("field")
    return model if field is None else {**model, "field": field}


def use_threads(threads: int | None) -> None:
    """Set the number of threads; None leaves it.

    Raises:
        InputError: It is not in 1..1024.
    """
    if threads is not None:
        torch.set_num_threads(whole_number(threads, "--threads", 1, 1024))


def run_task(task: Task, plan: Plan, rate: Rate, folder: RunFolder, watch: Watch) -> TrainResult:
    """Run a task, from where its folder's state left it if there is one.

    Args:
        task: Fresh, not yet prepared.
        plan: Started.
        rate: Learning rate over the run.
        folder: Open for writing.
        watch: Who watches.

    Returns:
        How it ended, without metrics.

    Raises:
        RunError: It failed; what was saved can be resumed.
        DataError: The state does not belong to the task.
    """
    model = task.model

    def save(step: int) -> Callable[[], None]:
        tensors, facts = task.state()
        seconds, field = plan.seconds(), model.config["field"]

        def write() -> None:
            folder.save_state(
                {
                    "step": step,
                    "seconds": seconds,
                    "task": facts,
                    "field": field,
                    **loop.state(),
                    **{f"task.{name}": value for name, value in tensors.items()},
                }
            )
            task.finish()
            model.info["steps"] = step
            model.info["train_seconds"] = seconds
            folder.save_model(lambda path: model_file.save(model, path))

        return write

    loop = Loop(
        task,
        plan,
        rate,
        save=save,
        log=lambda step, seconds, report: folder.log(
            step=step,
            seconds=round(seconds, 4),
            loss=report.loss,
            samples=report.samples,
            rays=report.rays,
        ),
        on_progress=watch.tell,
        control=watch.control,
        save_every=watch.save_every,
    )
    state = folder.load_state()
    if state is None:
        loop.prepare()
    else:
        _restore(loop, task, plan, state)
    finished = loop.run()
    # It may have been asked to stop during the last save.
    interrupted = not finished or watch.control.stop.is_set()
    if not interrupted:
        done = Progress(
            step=loop.step, seconds=plan.seconds(), message=f"Trained {loop.step} steps."
        )
        watch.tell(done)
    return TrainResult(folder.path, loop.step, interrupted, {})


def _restore(loop: Loop, task: Task, plan: Plan, state: dict[str, Any]) -> None:
    """Go on from a saved state, or say that it does not fit its config."""
    try:
        tensors = {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
        loop.load_state(tensors, int(state["step"]))
        own = {k.removeprefix("task."): v for k, v in tensors.items() if k.startswith("task.")}
        task.load_state(own, state["task"])
        plan.start(float(state["seconds"]))
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise DataError(
            f"state.safetensors does not belong to config.json ({error}); start a new run."
        ) from None


def model_facts(model: Model, file: Path) -> dict[str, Any]:
    """What metrics.json says of a model whatever it is: steps, seconds, sizes, memory."""
    weights = list(model.module.parameters())
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS
    return {
        "steps": model.info.get("steps"),
        "train_seconds": model.info.get("train_seconds"),
        "parameters": sum(w.numel() for w in weights if w.requires_grad),
        "stored_values": sum(stored_values(t) for t in model.module.state_dict().values()),
        "bytes": file.stat().st_size,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "protocol": model.info.get("protocol"),
    }


def keep_metrics(metrics: dict[str, Any], folder: RunFolder, tell: Tell) -> None:
    """Write what was measured, or say that it was not written: the caller has it all the same."""
    try:
        folder.write_metrics(metrics)
    except RunError as error:
        tell(Progress(message=f"The evaluation is not kept: {error}"))
