"""The log of a run: one JSON object a line, readable while it grows."""

import json
import os
from pathlib import Path
from typing import Any

from polyfield.errors import RunError
from polyfield.files import parse_json, replacing

__all__ = ["Log", "read_log"]


def read_log(path: Path) -> list[dict[str, Any]]:
    """Entries of a log; none when there is no log.

    A kill can leave half a line at the end: reading stops before the first line that is not an entry.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    entries = []
    for line in text.split("\n")[:-1]:  # what follows the last newline is half a line, or nothing
        try:
            entry = parse_json(line)
        except ValueError:
            break
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
            break
        entries.append(entry)
    return entries


class Log:
    """Appends entries to a file.

    Args:
        path: File of JSON lines; made when the first entry comes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def append(self, entry: dict[str, Any]) -> None:
        """Write one entry as one line, at once visible to readers.

        Raises:
            RunError: The disk is full. The entries before stay readable.
        """
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        try:
            if self._handle is None:
                self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            written = os.write(self._handle, line)
            if written != len(line):  # no room for the rest: take the half line back
                os.truncate(self._handle, os.fstat(self._handle).st_size - written)
                raise OSError(0, "No space left on device")
        except OSError as error:
            raise RunError(f"{self._path} could not be written: {error.strerror}.") from None

    def cut(self, step: int) -> None:
        """Drop the entries after `step`, and whatever a kill left half written."""
        self.close()
        if not self._path.exists():
            return
        kept = [entry for entry in read_log(self._path) if entry["step"] <= step]
        try:
            with replacing(self._path) as beside:
                beside.write_text("".join(json.dumps(entry) + "\n" for entry in kept))
        except OSError as error:
            raise RunError(f"{self._path} could not be written: {error.strerror}.") from None

    def sync(self) -> None:
        """Bring the entries to the disk."""
        if self._handle is not None:
            os.fsync(self._handle)

    def close(self) -> None:
        """Close the file; `append` opens it again."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
