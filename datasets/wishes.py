"""Numbers that callers ask for, checked before anything is done with them."""

import sys
from numbers import Integral, Real

from polyfield.errors import InputError

__all__ = ["positive_seconds", "whole_number"]


def whole_number(value: object, name: str, low: int, high: int | None = None) -> int:
    """Check a whole number.

    Args:
        value: What came.
        name: What to call it in messages.
        low, high: Bounds, both included; None: there is none above.

    Raises:
        InputError: It is none (True and False are none), or out of its bounds.

    Example:
        >>> whole_number(4, "--threads", 1)
        4
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or int(value) < low or (high is not None and int(value) > high):  # type: ignore[call-overload]
        bounds = f">= {low}" if high is None else f"from {low} to {high}"
        raise InputError(f"{name} must be a whole number {bounds}, but is {value!r}.")
    return int(value)  # type: ignore[call-overload, no-any-return]


def positive_seconds(value: object, name: str) -> float:
    """Check a time.

    Raises:
        InputError: It is no number, not above 0, or not finite.

    Example:
        >>> positive_seconds(60, "The time budget")
        60.0
    """
    known = isinstance(value, Real) and not isinstance(value, bool)
    if not known or not 0 < value <= sys.float_info.max:  # type: ignore[operator]
        raise InputError(f"{name} must be above 0 seconds and finite, but is {value!r}.")
    return float(value)  # type: ignore[arg-type]
