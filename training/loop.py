"""The one training loop: train, fit and convert share it."""

import gc
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from torch import Tensor

from polyfield.config import to_json
from polyfield.errors import RunError
from polyfield.fields.registry import Resize
from polyfield.training.adam import Adam, AdamGroup
from polyfield.training.progress import Progress
from polyfield.training.schedule import Plan, Rate
from polyfield.training.task import StepReport, Task

__all__ = ["Control", "Loop"]


@dataclass
class Control:
    """How somebody outside steers a running loop; every wish is heeded between two steps.

    Attributes:
        stop: Set to end the run after this step; it is saved.
        save: Set to save after this step; the loop clears it.
        pause: While set, the loop waits.
        saving: Set by the loop while files are being written: a bad moment to interrupt it.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    save: threading.Event = field(default_factory=threading.Event)
    pause: threading.Event = field(default_factory=threading.Event)
    saving: threading.Event = field(default_factory=threading.Event)


class _Average:
    """A running mean that forgets, unbiased from the first value on."""

    def __init__(self, keep: float) -> None:
        self._keep, self._sum, self._weight = keep, 0.0, 0.0

    def add(self, value: float) -> float:
        self._sum = self._keep * self._sum + value
        self._weight = self._keep * self._weight + 1.0
        return self._sum / self._weight


_FIRST_SAVE = 5.0  # seconds: what a kill may cost a young run
_GROWTH = 4.0  # of the time between saves, until it is what was asked for
_SHARE = 50.0  # of a run's time, at most one part in this goes into saves that nobody asked for


class Loop:
    """Runs a task to the end of its plan.

    Saves: the first after a few seconds, then at growing intervals up to `save_every`; at a stop; and at the end. What
    is saved has been tried: weights of which the loss is not finite never replace the save before.

    Args:
        task: What is trained.
        plan: How long.
        rate: Learning rate over the run.
        save: Called with the number of steps done when it is time to save; notes everything but the weights, and gives
            what writes it all, with the weights of that moment.
        log: Called after every step with the steps done, the seconds and the step's report.
        on_progress: Called about five times a second.
        control: Wishes from outside.
        save_every: Most seconds between saves.
    """

    def __init__(
        self,
        task: Task,
        plan: Plan,
        rate: Rate,
        *,
        save: Callable[[int], Callable[[], None]],
        log: Callable[[int, float, StepReport], None],
        on_progress: Callable[[Progress], None],
        control: Control,
        save_every: float,
    ) -> None:
        self.task = task
        self.plan = plan
        self.rate = rate
        self._factors = {group.name: group.rate for group in task.groups()}
        self.optimiser = Adam(
            [
                AdamGroup(
                    group.name,
                    group.parameters,
                    rate=0.0,
                    gradients=[] if group.gradient is None else [group.gradient],
                    weight_decay=group.decay,
                )
                for group in task.groups()
            ]
        )
        self.step = 0
        self.control = control
        self._save, self._log, self._on_progress = save, log, on_progress
        self._save_every = save_every
        self._gap = min(save_every, _FIRST_SAVE)
        self._last_save = time.monotonic()
        self._kept: int | None = None  # the step that the run folder holds

    def state(self) -> dict[str, Tensor]:
        """Tensors of the weights and the optimiser, from which `load_state` goes on."""
        tensors = {f"weights.{n}": t for n, t in self.task.model.module.state_dict().items()}
        return tensors | {f"adam.{n}": t for n, t in self.optimiser.state_dict().items()}

    def load_state(self, tensors: dict[str, Tensor], step: int) -> None:
        """Take back what `state` gave after `step` steps."""
        own = self.task.model.module
        own.load_state_dict(
            {n.removeprefix("weights."): t for n, t in tensors.items() if n.startswith("weights.")}
        )
        self.optimiser.load_state_dict(
            {n.removeprefix("adam."): t for n, t in tensors.items() if n.startswith("adam.")}
        )
        self.step = self._kept = step

    def prepare(self) -> None:
        """Let the task do what comes before the first step of a new run."""
        self._resized(self.task.prepare())

    def run(self) -> bool:
        """Train until the plan is done.

        Returns:
            Whether it got there; False when it was asked to stop.

        Raises:
            RunError: A gradient or the loss is not finite, and what was saved before stays as it was; or the time was
                over before the first step.
        """
        if self.step == 0 and self.plan.done(0):
            raise RunError(
                f"The budget of {self.plan.budget:g} s was over before the first step: what comes before it took "
                f"{self.plan.seconds():.1f} s, and nothing is trained. Give it more time."
            )
        # What is alive now stays alive: no need to search it for garbage every few hundred allocations.
        gc.collect()
        gc.freeze()
        try:
            return self._run()
        finally:
            gc.unfreeze()

    def _run(self) -> bool:
        loss, error = _Average(0.99), _Average(0.99)
        self._last_save = shown = time.monotonic()
        shown_samples = samples = 0
        while not self.plan.done(self.step):
            if self.control.stop.is_set():
                self._try_and_save()
                return False
            if self.control.pause.is_set():
                time.sleep(0.05)
                continue
            report = self._one_step()
            samples += report.samples
            smooth, squared = loss.add(report.loss), error.add(report.error)
            self._log(self.step, self.plan.seconds(), report)
            now = time.monotonic()
            if now - shown >= 0.2 or self.step == 1:
                elapsed = max(now - shown, 1e-9)
                progress = self.plan.progress(self.step)
                self._on_progress(
                    Progress(
                        step=self.step,
                        steps=self.plan.steps or self._steps_expected(progress),
                        seconds=self.plan.seconds(),
                        seconds_left=self.plan.seconds_left(self.step),
                        loss=smooth,
                        psnr=-10 * math.log10(max(squared, 1e-12)),
                        samples_per_second=(samples - shown_samples) / elapsed,
                        rays=report.rays,
                    )
                )
                shown, shown_samples = now, samples
        self._try_and_save()
        return True

    def _steps_expected(self, progress: float) -> int | None:
        return round(self.step / progress) if progress > 0.01 else None

    def _one_step(self) -> StepReport:
        progress = self.plan.progress(self.step)
        write = self._save(self.step) if self._save_is_due() else None
        report = self._gradients(progress)
        if write is not None:  # these weights have just been seen to give a finite loss
            self._write(write)
        rate = self.rate.at(self.step, progress)
        for name, factor in self._factors.items():
            self.optimiser.set_rate(name, rate * factor)
        broken = self.optimiser.step()
        if broken is not None:
            self._stop(f"the gradient of {broken}")
        self._resized(self.task.after_step(self.step, progress))
        self.step += 1
        return report

    def _resized(self, resizes: list[Resize]) -> None:
        for resize in resizes:
            self.optimiser.resize(resize.old, resize.new, resize.rows, resize.gradient)
        if resizes:
            model = self.task.model
            model.config["field"] = to_json(model.module.config)

    def _gradients(self, progress: float) -> StepReport:
        report = self.task.gradients(self.step, progress)
        if not math.isfinite(report.loss):
            self._stop("the loss")
        return report

    def _save_is_due(self) -> bool:
        wished = self.control.save.is_set()
        self.control.save.clear()
        return wished or time.monotonic() - self._last_save >= self._gap

    def _try_and_save(self) -> None:
        """Save at the end. The gradients of one more batch, which nobody uses, say whether the weights are good."""
        write = self._save(self.step)
        if self._kept != self.step:
            self._gradients(self.plan.progress(self.step))
        self._write(write)

    def _write(self, write: Callable[[], None]) -> None:
        started = time.monotonic()
        self.control.saving.set()
        try:
            write()
        finally:
            self.control.saving.clear()
        self._kept, self._last_save = self.step, time.monotonic()
        cost = self._last_save - started
        self._gap = min(self._save_every, max(_GROWTH * self._gap, _SHARE * cost))

    def _stop(self, culprit: str) -> NoReturn:
        """End the run on a NaN, and leave the folder alone: the weights of now are finite, but they gave the NaN."""
        kept = (
            "Nothing had been saved yet."
            if self._kept is None
            else f"The run folder holds step {self._kept}, saved while the loss was finite."
        )
        raise RunError(
            f"Training stopped at step {self.step}: {culprit} is not finite. {kept} "
            "A lower rate usually helps (--set train.rate=... in a new run)."
        )
