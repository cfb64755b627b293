"""Progress of a run on stderr: a bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from polyfield.training.progress import Progress

__all__ = ["ProgressDisplay", "line_of", "time_of"]


def time_of(seconds: float) -> str:
    """Write a time as a clock does.

    Example:
        >>> time_of(7), time_of(3725)
        ('0:07', '1:02:05')
    """
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def line_of(progress: "Progress") -> str:
    """Write one state of a run as a line."""
    of = f"/{progress.steps}" if progress.steps is not None else ""
    parts = [f"step {progress.step}{of}"]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.5f}")
    if progress.psnr is not None:
        parts.append(f"PSNR {progress.psnr:.2f} dB")
    if progress.samples_per_second > 0:
        parts.append(f"{progress.samples_per_second / 1e6:.2f} M samples/s")
    if progress.seconds_left is not None and progress.seconds_left < 1e7:
        parts.append(f"{time_of(progress.seconds_left)} left")
    return ", ".join(parts)


class ProgressDisplay:
    """Shows what `on_progress` tells; use it as a context and call it with each `Progress`.

    Args:
        stream: Where to; stderr by default.
        every: Seconds between lines where the stream is no terminal.

    Example:
        >>> from polyfield.training.progress import Progress
        >>> with ProgressDisplay(sys.stdout) as show:
        ...     show(Progress(step=10, steps=100, seconds_left=61.0, psnr=25.0))
        step 10/100, PSNR 25.00 dB, 1:01 left
    """

    def __init__(self, stream: TextIO | None = None, every: float = 5.0) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._every = every
        self._next = 0.0
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._console: Console | None = None

    def __enter__(self) -> "ProgressDisplay":
        if self._stream.isatty():
            self._open_bar()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: "Progress") -> None:
        """Show one state. A message that counts (step of steps) replaces the line, others stand for themselves."""
        counts = progress.step > 0 and (not progress.message or progress.steps is not None)
        if self._bar is None or self._console is None or self._task is None:
            self._print(progress, counts)
        elif counts:
            told = progress.message or line_of(progress)
            self._bar.update(self._task, completed=progress.step, total=progress.steps, told=told)
        elif progress.message:
            self._console.print(progress.message, markup=False, highlight=False)

    def _print(self, progress: "Progress", counts: bool) -> None:
        now = time.monotonic()
        last = progress.steps is not None and progress.step >= progress.steps
        if counts and now < self._next and not last:
            return
        if counts:
            self._next = now + self._every
        text = progress.message or (line_of(progress) if counts else "")
        if text:
            print(text, file=self._stream, flush=True)

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        self._console = Console(file=self._stream)
        columns = BarColumn(bar_width=24), TextColumn("{task.fields[told]}", markup=False)
        self._bar = Bar(*columns, console=self._console, transient=False)
        self._task = self._bar.add_task("", total=None, told="starting")
        self._bar.start()
