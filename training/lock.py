"""One writer at a time for a folder."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from polyfield.errors import InputError

__all__ = ["FolderLock"]


class FolderLock:
    """An exclusive lock on a folder, held until `release` or the end of the process.

    The lock is the kernel's (flock on a file named `lock`), not the file's existence: it falls with its process,
    kill -9 included, and the file that stays behind means nothing. It is never deleted, because another process may
    just be opening it.

    Args:
        folder: An existing folder.

    Raises:
        InputError: Another process, or another lock of this one, holds it, or the folder cannot be written to.
    """

    NAME = "lock"

    def __init__(self, folder: Path) -> None:
        try:
            self._handle: int | None = os.open(folder / self.NAME, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(f"{folder} cannot be written to: {error.strerror}.") from None
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._handle, 20).decode("ascii", "replace").strip()
            self.release()
            who = f" (process {holder})" if holder.isdigit() else ""
            raise InputError(
                f"{folder} is being written by another run{who}. Stop it, or choose another --out."
            ) from None
        os.truncate(self._handle, 0)
        os.write(self._handle, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._handle is not None:
            os.close(self._handle)  # closing lets go of a flock
            self._handle = None

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
