"""Writing files so that a crash at any moment leaves the old one or the new one, never half of either; reading JSON."""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from polyfield.errors import DataError, InputError

__all__ = ["is_half", "parse_json", "read_json", "replacing", "write_json"]

_DEEPEST = 64  # nothing here needs ten, and whatever walks through what was read recurses
_TOO_DEEP = f"is nested too deep (more than {_DEEPEST} lists or objects in each other)"


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a path beside `path` to write to; on success sync it and rename it over `path`.

    When the body raises, the half-written file is removed and `path` is as it was.

    Raises:
        InputError: `path` holds a zero byte.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with replacing(target) as beside:
        ...     _ = beside.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    path = Path(path)
    if "\0" in str(path):
        raise InputError(f"{str(path)!r} cannot be the name of a file: it holds a zero byte.")
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(
            0o666 & ~_umask()
        )  # mkstemp made it private; a result is as public as any other file
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say of which file
        beside.unlink(missing_ok=True)
        raise


def is_half(name: str, target: str) -> bool:
    """Whether a kill while `replacing(target)` was busy may have left a file of this name beside it.

    Example:
        >>> is_half(".config-ab12cd_9.json", "config.json")
        True
    """
    path = Path(target)
    return fnmatchcase(name, f".{path.stem}-*{path.suffix}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system lets a folder be synced."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path | str, data: Any) -> None:
    """Write JSON, indented, with a newline at the end, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read JSON, or say in a sentence what is wrong with it.

    Raises:
        InputError: There is no such file, or it cannot be read.
        DataError: It is not JSON, or beyond what `parse_json` reads.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text file in UTF-8.") from None
    except ValueError:  # Python's word for a zero byte in the name
        raise InputError(f"{str(path)!r} cannot be read: its name holds a zero byte.") from None
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        detail = f"line {error.lineno}: {error.msg}"
        raise DataError(f"{path} is not valid JSON ({detail}); is it cut off?") from None
    except DataError as error:
        raise DataError(f"{path} cannot be used: it {error}.") from None


def parse_json(text: str) -> Any:
    """Parse JSON that may come from anywhere.

    Raises:
        json.JSONDecodeError: It is not JSON.
        DataError: It is, but is nested too deep or has a number that is too long; says which, without a subject and
            a full stop.

    Example:
        >>> parse_json("[1, 2]")
        [1, 2]
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise DataError(_TOO_DEEP) from None
    except ValueError:  # Python converts no integer of more than 4300 digits
        raise DataError("has a number of thousands of digits") from None
    layer = [data]
    for _ in range(_DEEPEST):
        layer = [inner for outer in layer for inner in _within(outer)]
    if any(isinstance(inner, dict | list) for inner in layer):
        raise DataError(_TOO_DEEP)
    return data


def _within(data: Any) -> Iterable[Any]:
    """Give what a JSON value holds directly."""
    if isinstance(data, dict):
        return data.values()
    return data if isinstance(data, list) else ()
