"""What the commands' arguments have in common: kinds of values, shared flags, errors as sentences."""

import argparse
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from polyfield.errors import InputError, nearest

__all__ = ["Parser", "add_json", "add_threads", "choice", "duration", "print_json", "whole"]

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one sentence, with the nearest flag for an unknown one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def parse_args(self, args: Any = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        """Parse, or raise `InputError`."""
        parsed: argparse.Namespace
        parsed, unknown = self.parse_known_args(args, namespace)
        for word in unknown:
            if word.startswith("-"):
                flag = word.split("=", 1)[0]
                known = [name for name in self._option_string_actions if name.startswith("--")]
                raise InputError(f"{self.prog} has no flag {flag}.{nearest(flag, known)}")
            raise InputError(f"{self.prog} does not know what to do with {word!r}; see --help.")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Raise `InputError` instead of printing the usage and leaving."""
        message = re.sub(r"^argument ", "", message)
        message = message.replace("the following arguments are required:", "still needed:")
        raise InputError(f"{self.prog}: {message.rstrip('.')}.")


def duration(text: str) -> float:
    """Seconds of a time such as "60s", "5m", "1.5h" or "90".

    Raises:
        argparse.ArgumentTypeError: It is no time, or not above 0.

    Example:
        >>> duration("1.5m")
        90.0
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match else math.nan
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(
            f"a time above 0 is needed, as 60s, 5m or 1h, not {text!r}"
        )
    return seconds


def whole(low: int, high: int) -> Callable[[str], int]:
    """Reader of whole numbers between two bounds, both included.

    Example:
        >>> whole(1, 8)("4")
        4
    """

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"a whole number from {low} to {high} is needed, not {text!r}"
            )
        return value

    return read


def choice(*names: str) -> Callable[[str], str]:
    """Reader of one of a few names.

    Example:
        >>> choice("fp32", "bf16")("bf16")
        'bf16'
    """

    def read(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"one of {', '.join(names)} is needed, not {text!r}")
        return text

    return read


def add_threads(parser: Parser) -> None:
    """Add --threads."""
    parser.add_argument(
        "--threads", type=whole(1, 1024), metavar="N", help="threads to use (default: all cores)"
    )


def add_json(parser: Parser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def print_json(data: Any) -> None:
    """Print the one JSON object of --json; paths become strings, and what JSON has no number for, null.

    Example:
        >>> print_json({"psnr": math.inf, "out": Path("run")})
        {"psnr": null, "out": "run"}
    """
    print(json.dumps(_plain(data), allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
