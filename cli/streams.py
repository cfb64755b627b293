"""Standard streams that never stop the work: closed ones, readers that went away, letters that do not fit."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

__all__ = ["lead_nowhere", "settled"]


@contextmanager
def settled() -> Iterator[None]:
    """Make the standard streams safe to print to, until the end of the block.

    A stream that was closed (`>&-`) leads nowhere instead, so that no file opened later takes its number. What cannot
    be encoded is printed with backslashes. Progress and remarks on stderr are dropped once nobody can read them any
    more, as after `2>&1 | tee log` and Ctrl-C, which ends `tee` too; a failure of stdout, which takes the results, is
    an error as ever.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    before = sys.stdout, sys.stderr
    out, err = (_open(stream, number) for number, stream in enumerate(before, 1))
    sys.stdout, sys.stderr = out, _Unfailing(err)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before[0] or out, before[1] or err


def lead_nowhere(stream: TextIO) -> None:
    """Give up a stream that nobody reads: what its buffer holds would fail again at the end of the process."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _open(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:
        return open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
    return stream


class _Unfailing:
    """A stream that swallows what can no longer be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # a ValueError says that it is closed
            lead_nowhere(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            lead_nowhere(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
