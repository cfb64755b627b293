"""Learning rates of a run, as its config has them: what all tasks have in common."""

from dataclasses import dataclass

from polyfield.errors import ConfigError
from polyfield.fields.registry import ParameterGroup
from polyfield.training.schedule import Rate

__all__ = ["Rates"]


@dataclass(frozen=True)
class Rates:
    """How fast a field learns.

    Attributes:
        rate: Peak learning rate.
        head_rate: Factor on it for everything that is not a table of features.
        warmup: Steps until the peak.
        hold: Fraction of the run until the rate falls.
        final_rate: Factor at the end.

    Raises:
        ConfigError: A value is out of its range; the key is named.
    """

    rate: float
    head_rate: float
    warmup: int
    hold: float
    final_rate: float

    def __post_init__(self) -> None:
        for name in ("rate", "head_rate", "final_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"train.{name} must be above 0, but is {getattr(self, name)}.")
        if not self.final_rate <= 1:
            raise ConfigError(f"train.final_rate must be in (0, 1], but is {self.final_rate}.")
        if self.warmup < 0:
            raise ConfigError(f"train.warmup must not be below 0, but is {self.warmup}.")
        if not 0 <= self.hold < 1:
            raise ConfigError(f"train.hold must be in [0, 1), but is {self.hold}.")

    @property
    def schedule(self) -> Rate:
        """The learning rate over the run."""
        return Rate(self.rate, self.warmup, self.hold, self.final_rate)

    def of(self, groups: list[ParameterGroup]) -> list[ParameterGroup]:
        """Give groups of a field, those of dense parameters at the heads' rate."""
        for group in groups:
            if group.gradient is None:
                group.rate *= self.head_rate
        return groups
