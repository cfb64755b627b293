"""Ctrl-C, SIGTERM and a closed terminal while work goes on: finish the step, save, and say so."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

__all__ = ["StopOnSignal", "Terminated", "interruptible"]

_HANGUP = getattr(signal, "SIGHUP", None)  # not every system has it


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came when there was nothing to finish.

    Attributes:
        status: Exit status: 143 by SIGTERM, 129 by SIGHUP.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Let every signal that asks to end raise `KeyboardInterrupt`, so that files that are half written are removed."""
    before = _handle_with(_interrupt)
    try:
        yield
    finally:
        _put_back(before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del frame
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


def _handle_with(handler: Callable[[int, FrameType | None], None]) -> dict[int, object]:
    """Install a handler for all signals that ask to end; give those before."""
    if threading.current_thread() is not threading.main_thread():
        return {}  # only the main thread gets signals
    numbers = [signal.SIGINT, signal.SIGTERM]
    if (
        _HANGUP is not None and signal.getsignal(_HANGUP) is not signal.SIG_IGN
    ):  # `nohup` ignores it
        numbers.append(_HANGUP)
    return {number: signal.signal(number, handler) for number in numbers}


def _put_back(handlers: dict[int, object]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)  # type: ignore[arg-type]  # as signal.signal gave it


class StopOnSignal:
    """While `busy`, the first signal calls `stop`; a second one, or one at another time, interrupts at once.

    A closed terminal is told several times over, by the shell and by the system, so SIGHUP is never the second one.

    Args:
        stop: Asks the run to end after its step. It is called from a signal handler: set a flag, no more.
        saving: Whether files are being written; that is finished in any case.

    Attributes:
        busy: Whether there is a step to finish; whoever watches the run sets it.
        status: Exit status of a run that was stopped: 130 by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
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
        self._before = _handle_with(self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _put_back(self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        saving = self._saving()
        again = self._asked and number != _HANGUP
        if not saving and (again or not (self._asked or self.busy)):
            _interrupt(number, frame)
        if self._asked:
            return
        self._asked = True
        self.status = 128 + number
        self._stop()
        what = "after this save" if saving else "after this step; once more stops at once, unsaved"
        print(f"\nStopping {what}.", file=sys.stderr)
