"""Schedules as fractions of the planned run, and the plan itself.

A run is planned by steps or by seconds. Its progress goes from 0 to 1, and every schedule is a function of it, so
that a run of 10 seconds and one of an hour go through the same phases.
"""

import time
from dataclasses import dataclass

from polyfield.datasets.wishes import positive_seconds, whole_number
from polyfield.errors import InputError
from polyfield.training.saved_run import SavedRun

__all__ = ["Plan", "Rate", "plan_for"]

_USUAL = 60.0  # seconds


@dataclass(frozen=True)
class Rate:
    """The learning rate over a run: rise, hold, fall exponentially.

    Attributes:
        peak: Highest rate.
        warmup: Steps of linear rise. In steps, because it heals the optimiser's start, which is as long in any run.
        hold: Fraction of the run until which the peak is held.
        final: What is left of the peak at the end, as a factor.
    """

    peak: float
    warmup: int = 30
    hold: float = 0.45
    final: float = 0.03

    def at(self, step: int, progress: float) -> float:
        """Rate of a step (counted from 0) at a progress in [0, 1].

        Example:
            >>> Rate(1.0, warmup=4).at(0, 0.0), Rate(1.0, final=0.5).at(10_000, 1.0)
            (0.25, 0.5)
        """
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        fall = max(0.0, (progress - self.hold) / (1.0 - self.hold))
        return self.peak * rise * float(self.final**fall)


class Plan:
    """How long a run goes on: a number of steps, or a time.

    With steps, progress is counted in them, and the same seed gives the same bits. With a budget, progress is the
    share of the time that is used, so the schedules always come to their end in time however the speed of a step
    changes during the run.

    Args:
        steps: Number of steps, or None.
        budget: Seconds, or None. Exactly one of the two is given.

    Raises:
        InputError: Both or neither are given, or one is no number above 0.
    """

    def __init__(self, steps: int | None, budget: float | None) -> None:
        if (steps is None) == (budget is None):
            raise InputError("A run needs either a number of steps or a time budget, not both.")
        self.steps = None if steps is None else whole_number(steps, "The number of steps", 1)
        self.budget = None if budget is None else positive_seconds(budget, "The time budget")
        self._before = 0.0
        self._started = time.monotonic()

    def start(self, seconds_before: float = 0.0) -> None:
        """Start the clock; a resumed run says how long it had been running."""
        self._before = seconds_before
        self._started = time.monotonic()

    def seconds(self) -> float:
        """Seconds that the run has been going, those before a resume included."""
        return self._before + time.monotonic() - self._started

    def progress(self, step: int) -> float:
        """Fraction of the run that is done before a step, in [0, 1]."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        return min(1.0, self.seconds() / (self.budget or 1.0))

    def done(self, step: int) -> bool:
        """Whether to stop before this step."""
        return self.progress(step) >= 1.0

    def seconds_left(self, step: int) -> float:
        """Estimate of the time to go."""
        if self.budget is not None:
            return max(0.0, self.budget - self.seconds())
        done = self.progress(step)
        return self.seconds() * (1.0 - done) / done if done > 0 else float("inf")


def plan_for(steps: int | None, budget: float | None, begun: SavedRun | None = None) -> Plan:
    """Plan a run as was asked, or for a minute where nothing was.

    Args:
        steps, budget: What was asked.
        begun: The run that goes on, which keeps its plan.

    Raises:
        InputError: As of `Plan`; or something else is asked of a run that goes on.
    """
    if begun is None:
        return Plan(steps, _USUAL if steps is None and budget is None else budget)
    if budget is not None or steps is not None:
        raise InputError("A run that goes on keeps its plan: leave --budget and --steps away.")
    return Plan(begun.steps, begun.budget)
