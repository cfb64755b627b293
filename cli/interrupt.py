"""Ctrl-C (and SIGTERM) while a run goes on: finish the step, save, and say so."""

import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType

__all__ = ["StopOnSignal"]


class StopOnSignal:
    """While `busy`, the first signal calls `stop`; a second one, or one at another time, interrupts at once.

    Args:
        stop: Asks the run to end after its step. It is called from a signal handler: set a flag, no more.

    Attributes:
        busy: Whether there is a step to finish; whoever watches the run sets it.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self.busy = False
        self._stop = stop
        self._asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopOnSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # as signal.signal gave it

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._asked or not self.busy:
            raise KeyboardInterrupt
        self._asked = True
        self._stop()
        print("\nStopping after this step; once more stops at once, unsaved.", file=sys.stderr)
