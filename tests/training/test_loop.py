"""When the loop saves, and what it never saves."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polyfield.errors import RunError
from polyfield.fields.model import Model
from polyfield.fields.registry import ParameterGroup, Resize
from polyfield.training import loop as loops
from polyfield.training.loop import Control, Loop
from polyfield.training.schedule import Plan, Rate
from polyfield.training.task import StepReport


class ToyTask:
    """Pulls a number towards 0; its loss is not finite at `sick` steps. A step takes a second of the clock."""

    def __init__(self, sick: int = -1, on_step: Callable[[int], None] = lambda _: None) -> None:
        module = nn.Module()
        self.weight = module.weight = nn.Parameter(torch.ones(1))
        self.model = Model(kind="toy", config={}, module=module)
        self.sick, self.on_step, self.now = sick, on_step, 0.0

    def groups(self) -> list[ParameterGroup]:
        return [ParameterGroup("weight", [self.weight])]

    def prepare(self) -> list[Resize]:
        return []

    def gradients(self, step: int, progress: float) -> StepReport:
        self.now += 1.0
        self.on_step(step)
        self.weight.grad = self.weight.detach().clone()
        return StepReport(math.nan if step == self.sick else 1.0, 1.0, 1, 1)

    def after_step(self, step: int, progress: float) -> list[Resize]:
        return []

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {}, {}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None: ...

    def finish(self) -> None: ...


def run(
    task: ToyTask,
    monkeypatch: pytest.MonkeyPatch,
    *,
    steps: int,
    save_every: float = 1e6,
    cost: float = 0.0,
    control: Control | None = None,
) -> list[tuple[int, float]]:
    """Run a task; returns the steps that were saved, with the weight of each."""
    monkeypatch.setattr(
        loops, "time", SimpleNamespace(monotonic=lambda: task.now, sleep=lambda _: None)
    )
    saved: list[tuple[int, float]] = []

    def save(step: int) -> Callable[[], None]:
        def write() -> None:
            task.now += cost
            saved.append((step, float(task.weight.detach())))

        return write

    loop = Loop(
        task,
        Plan(steps, None),
        Rate(0.01),
        save=save,
        log=lambda *_: None,
        on_progress=lambda _: None,
        control=control or Control(),
        save_every=save_every,
    )
    try:
        loop.run()
    except RunError as error:
        saved.append((-1, 0.0))
        task.model.info["error"] = str(error)
    return saved


def test_the_first_saves_come_early(monkeypatch):
    saved = [step for step, _ in run(ToyTask(), monkeypatch, steps=500, save_every=100)]
    assert saved == [5, 26, 107, 208, 309, 410, 500]


def test_wishes_for_more_saves_are_heeded(monkeypatch):
    assert [s for s, _ in run(ToyTask(), monkeypatch, steps=8, save_every=2)] == [2, 5, 8]


def test_costly_saves_are_rare(monkeypatch):
    """A save of 4 s may come every 200 s."""
    saved = [s for s, _ in run(ToyTask(), monkeypatch, steps=450, save_every=300, cost=4.0)]
    assert saved == [5, 206, 450]


@pytest.mark.parametrize("sick", [7, 8, 12])
def test_weights_that_give_a_nan_never_replace_a_save(monkeypatch, sick):
    """The update of step 6 ruins the weights, and just then a save is wished for."""
    control = Control()
    wishes = {3, sick - 1}
    task = ToyTask(sick, lambda step: control.save.set() if step in wishes else None)
    saved = run(task, monkeypatch, steps=12, control=control)
    assert [step for step, _ in saved][:1] == [4]
    assert sick not in [step for step, _ in saved]
    assert saved[-1][0] == -1
    last = saved[-2][0]
    assert task.model.info["error"].startswith(
        f"Training stopped at step {sick}: the loss is not finite. The run folder holds step {last}, "
        "saved while the loss was finite."
    )


def test_a_nan_before_the_first_save_saves_nothing(monkeypatch):
    task = ToyTask(2)
    assert run(task, monkeypatch, steps=12) == [(-1, 0.0)]
    assert "Nothing had been saved yet." in task.model.info["error"]


def test_trying_the_last_weights_does_not_change_them(monkeypatch):
    task = ToyTask()
    saved = run(task, monkeypatch, steps=4)
    assert saved == [(4, float(task.weight.detach()))]
    whole = run(ToyTask(), monkeypatch, steps=4, save_every=1)
    assert whole[-1] == saved[-1]


def test_a_budget_that_is_over_before_the_first_step_is_told() -> None:
    """Nothing is trained then, and nothing is saved as if it were."""
    saved: list[int] = []
    loop = Loop(
        ToyTask(),
        Plan(None, 1e-9),
        Rate(0.01),
        save=lambda step: lambda: saved.append(step),
        log=lambda *_: None,
        on_progress=lambda _: None,
        control=Control(),
        save_every=1.0,
    )
    with pytest.raises(RunError, match=r"budget of 1e-09 s was over before the first step"):
        loop.run()
    assert saved == []
