"""What grids that are refined during training share: when to grow, and which part of them a penalty looks at."""

from torch import Generator, randint

from polyfield.errors import ConfigError

__all__ = ["Sides", "check_sides", "next_side", "share_of"]

Sides = tuple[tuple[float, int], ...]
"""From which fraction of the run a grid has how many vertices along a side."""


def check_sides(kind: str, sides: Sides, most: int) -> None:
    """Refuse a schedule that is none.

    Raises:
        ConfigError: A fraction is outside [0, 1], or a side outside 2..most.
    """
    for fraction, side in sides:
        if not 0 <= fraction <= 1 or not 2 <= side <= most:
            raise ConfigError(
                f"{kind}: sides must be pairs of a fraction in [0, 1] and a side of 2 to {most}, but one is "
                f"[{fraction}, {side}]."
            )


def next_side(sides: Sides, progress: float, now: int) -> int | None:
    """Side that a grid should have by now, if that is more than it has.

    Example:
        >>> next_side(((0.2, 64), (0.5, 128)), 0.3, 32), next_side(((0.2, 64),), 0.3, 64)
        (64, None)
    """
    wanted = max((side for fraction, side in sides if fraction <= progress), default=now)
    return wanted if wanted > now else None


def share_of(count: int, parts: int, progress: float) -> slice:
    """One of the equal parts of a range, chosen at random, the same for the same progress.

    A penalty that looks at one part, with its weight times `parts`, costs that much less and is the same on average.

    Args:
        count: Length of the range.
        parts: Into how many to cut it.
        progress: Of the run, in [0, 1]. Nothing else is remembered, so a resumed run goes on with the same parts.
    """
    generator = Generator("cpu").manual_seed(int(progress * 2**31))
    number = int(randint(parts, (), generator=generator))
    return slice(count * number // parts, count * (number + 1) // parts)
