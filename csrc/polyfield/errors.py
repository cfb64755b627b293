"""Errors as sentences: what was wanted, what came, what to do.

Everything that a user can cause derives from `PolyfieldError`; the command line prints its message as one line and
exits with its `exit_status`. Anything else that escapes is a bug and shows a traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "ConfigError",
    "DataError",
    "InputError",
    "PolyfieldError",
    "RunError",
    "ShapeError",
    "nearest",
]


class PolyfieldError(Exception):
    """Base of all errors that carry a sentence for the user."""

    exit_status = 1


class RunError(PolyfieldError):
    """A run failed for a reason that is not the input's: a NaN, a full disk."""


class InputError(PolyfieldError, ValueError):
    """The user's arguments, files or data are not usable."""

    exit_status = 2


class DataError(InputError):
    """A scene, image, mesh or field file is broken or of a kind that is not understood."""


class ConfigError(InputError):
    """A config has an unknown key or a value of the wrong kind."""


class ShapeError(InputError):
    """A tensor has the wrong shape, dtype, device or layout."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant.

    Args:
        name: What the user wrote.
        known: What there is.

    Returns:
        " Did you mean 'x'?" or, when nothing is close, " Known: a, b, c."; starts with a space so that it can follow
        a sentence.

    Example:
        >>> nearest("hashgird", ["hashgrid", "nerf"])
        " Did you mean 'hashgrid'?"
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(names)}."
