"""Plans and learning rates: fractions of the run, whatever its length."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyfield.errors import InputError
from polyfield.training.schedule import Plan, Rate


@given(st.integers(30, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_after_the_warmup_the_rate_never_rises(step: int, a: float, b: float) -> None:
    rate = Rate(0.1)
    early, late = sorted((a, b))
    assert rate.at(step, late) <= rate.at(step, early) <= 0.1


def test_the_rate_is_held_and_ends_at_its_final_share() -> None:
    rate = Rate(0.1, warmup=10, hold=0.5, final=0.04)
    assert rate.at(100, 0.5) == 0.1
    assert math.isclose(rate.at(100, 1.0), 0.004)
    assert math.isclose(rate.at(100, 0.75), 0.1 * 0.04**0.5)  # half of the fall, exponentially


def test_a_plan_of_steps_counts_steps() -> None:
    plan = Plan(10, None)
    assert [plan.progress(s) for s in (0, 5, 10, 11)] == [0.0, 0.5, 1.0, 1.0]
    assert [plan.done(s) for s in (9, 10)] == [False, True]


def test_a_plan_of_seconds_counts_those_before_a_resume() -> None:
    plan = Plan(None, 100.0)
    plan.start(99.99)
    assert plan.progress(0) >= 0.9999
    time.sleep(0.02)
    assert plan.done(0)
    assert plan.seconds_left(0) == 0.0


@pytest.mark.parametrize(
    ("steps", "budget", "message"),
    [
        (0, None, "The number of steps must be a whole number >= 1, but is 0."),
        (-5, None, "The number of steps must be a whole number >= 1, but is -5."),
        (None, 0.0, "The time budget must be above 0 seconds and finite, but is 0.0."),
        (None, float("nan"), "The time budget must be above 0 seconds and finite, but is nan."),
        (None, math.inf, "The time budget must be above 0 seconds and finite, but is inf."),
        (None, None, "A run needs either a number of steps or a time budget, not both."),
        (1, 1.0, "A run needs either a number of steps or a time budget, not both."),
    ],
)
def test_impossible_plans_are_refused(
    steps: int | None, budget: float | None, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        Plan(steps, budget)
    assert str(caught.value) == message
