"""The task of fitting a field to values that are known at points: an image, a distance, a function on the sphere."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from polyfield.errors import ConfigError
from polyfield.fields.model import Model
from polyfield.fields.registry import ParameterGroup, Prepared, Resize
from polyfield.fields.signal import SignalField
from polyfield.training.rates import Rates
from polyfield.training.task import StepReport

__all__ = ["Batches", "SignalTask", "SignalTraining"]

_FLOOR = 0.01  # of |truth| in the relative error, so that the surface itself does not count without bound


@dataclass(frozen=True)
class SignalTraining(Rates):
    """How a signal field is trained.

    Attributes:
        rate, head_rate, warmup, hold, final_rate: As of `Rates`.
        batch: Points of a step.
        relative: Whether errors are divided by |truth| + 0.01 before they are squared, for distances.
        every: Of an image, learn from the pixels in every so-many-th row and column: 2 leaves out three of four. It is
            compared on all. Nothing but images has rows and columns.
    """

    rate: float = 0.01
    head_rate: float = 1.0
    warmup: int = 10
    hold: float = 0.3
    final_rate: float = 0.01
    batch: int = 1 << 16
    relative: bool = False
    every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.batch <= 1 << 24:
            raise ConfigError(f"train.batch must be in 1..{1 << 24}, but is {self.batch}.")
        if not 1 <= self.every <= 1 << 20:
            raise ConfigError(f"train.every must be in 1..{1 << 20}, but is {self.every}.")


class Batches(Protocol):
    """Where the points of a signal and their values come from."""

    def next(self, step: int, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw points [N, D] in [0, 1]^D and their values [N, O] for a step: about `count`."""
        ...

    def weighted(self) -> tuple[Float[Tensor, "M D"], Float[Tensor, " M"], Float[Tensor, " D"]]:
        """Give points, how much each matters, and the sides of the unit cube: what `Prepared` parts are placed by."""
        ...


class SignalTask:
    """Trains a signal field on batches of points.

    Args:
        model: Its module is a `SignalField`.
        batches: Where points come from.
        training: How.
        seed: Of all that is drawn.

    Raises:
        ConfigError: It is a model of another kind.
        ShapeError: The field's parts do not fit each other.
    """

    def __init__(self, model: Model, batches: Batches, training: SignalTraining, seed: int) -> None:
        if not isinstance(model.module, SignalField):
            raise ConfigError(f"A signal trains a signal field, not a model of kind {model.kind}.")
        self.model = model
        self.field = model.module
        self.training = training
        self._batches = batches
        self._generator = Generator().manual_seed(seed + 1)
        with (
            torch.no_grad()
        ):  # parts that do not fit each other say so now, before a run is overwritten
            self.field(torch.full((1, self.field.dim), 0.5))

    def groups(self) -> list[ParameterGroup]:
        """The field's groups; those of dense parameters at the heads' rate."""
        return self.training.of(self.field.groups())

    def prepare(self) -> list[Resize]:
        """Place what the parts place by data."""
        prepared = [p for p in self.field.parts().values() if isinstance(p, Prepared)]
        if prepared:
            points, weights, extent = self._batches.weighted()
            for part in prepared:
                part.prepare(points, weights, extent, self._generator)
        return []

    def gradients(self, step: int, progress: float) -> StepReport:
        """Compare the field with one batch and back-propagate the error."""
        points, truth = self._batches.next(step, self.training.batch, self._generator)
        error = self.field(points) - truth
        square = error.square().mean()
        loss = square
        if self.training.relative:
            loss = (error / (truth.abs() + _FLOOR)).square().mean()
        loss.backward()
        self.field.regularise(progress)
        return StepReport(loss.item(), square.item(), len(points), len(points))

    def after_step(self, step: int, progress: float) -> list[Resize]:
        """Let the field follow the step, and grow; all of the cube may hold something."""
        return self.field.after_step(progress, _everywhere)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The generator."""
        return {"generator": self._generator.get_state()}, {}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self._generator.set_state(tensors["generator"])

    def finish(self) -> None:
        """The model is up to date."""


def _everywhere(points: Tensor) -> Tensor:
    return torch.ones(len(points), dtype=torch.bool)
