"""Ctrl-C (and SIGTERM) while a run goes on: finish the step, save, and say so."""

import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType

__all__ = ["StopOnSignal", "Terminated"]


class Terminated(KeyboardInterrupt):
    """SIGTERM came when there was nothing to finish."""


class StopOnSignal:
    """While `busy`, the first signal calls `stop`; a second one, or one at another time, interrupts at once.

    Args:
        stop: Asks the run to end after its step. It is called from a signal handler: set a flag, no more.
        saving: Whether files are being written; that is finished in any case.

    Attributes:
        busy: Whether there is a step to finish; whoever watches the run sets it.
        status: Exit status of a run that was stopped: 130 by Ctrl-C, 143 by SIGTERM.
    """

    def __init__(
        self, stop: Callable[[], None], saving: Callable[[], bool] = lambda: False
    ) -> None:
        self.busy = False
        self.status = 128 + signal.SIGINT
        self._stop = stop
        self._saving = saving
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
        del frame
        saving = self._saving()
        if not saving and (self._asked or not self.busy):
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if self._asked:
            return
        self._asked = True
        self.status = 128 + number
        self._stop()
        what = "after this save" if saving else "after this step; once more stops at once, unsaved"
        print(f"\nStopping {what}.", file=sys.stderr)
