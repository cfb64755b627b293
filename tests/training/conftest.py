"""What the tests of runs share: a run that is stopped on its way."""

from collections.abc import Callable
from threading import Event

import pytest


class _StopAfter(Event):
    def __init__(self, times: int) -> None:
        super().__init__()
        self._left = times

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0


@pytest.fixture
def stop_after() -> Callable[[int], Event]:
    """An event that asks to stop when it has been asked a number of times: once before each step."""
    return _StopAfter
