"""What config.json of every run holds, whatever it trains."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from polyfield.errors import ConfigError

__all__ = ["SavedRun", "is_of_a_run"]


@dataclass(frozen=True)
class SavedRun:
    """Everything that a run's bits depend on, but for what it learns from.

    Attributes:
        preset: Name that the field came from.
        fingerprint: Of what it learns from.
        seed: Of everything random.
        steps: Planned number, or None.
        budget: Seconds, or None.
        model: Its `SECTIONS`.
        train: How it is trained.
        version: Of polyfield.

    Raises:
        ConfigError: The model lacks a section, or the seed is out of range.
    """

    SECTIONS: ClassVar[tuple[str, ...]] = ("kind", "field", "domain")

    preset: str
    fingerprint: str
    seed: int
    steps: int | None
    budget: float | None
    model: dict[str, Any]
    train: dict[str, Any]
    version: str

    def __post_init__(self) -> None:
        for key in self.SECTIONS:
            if key not in self.model:
                raise ConfigError(f"The run's model lacks {key!r}.")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"The seed must be in 0..2147483647, but is {self.seed}.")


def is_of_a_run(data: Any) -> bool:
    """Whether JSON is what config.json of a run holds, be it of another version: it has all that every run has.

    Example:
        >>> is_of_a_run({"model": {}, "train": {}})
        False
    """
    return isinstance(data, dict) and all(field.name in data for field in fields(SavedRun))
