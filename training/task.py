"""What the one training loop asks of a task: radiance fields, signals, distillation.

The loop knows nothing of images or rays. A task computes gradients; the loop updates, logs and saves.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from polyfield.fields.model import Model
from polyfield.fields.registry import ParameterGroup, Resize

__all__ = ["StepReport", "Task"]


@dataclass
class StepReport:
    """What a step did.

    Attributes:
        loss: Mean over what it counts.
        error: Mean squared error that PSNR is computed from.
        samples: Field evaluations of the forward pass.
        rays: Rays, pixels or points.
    """

    loss: float
    error: float
    samples: int
    rays: int


class Task(Protocol):
    """Something to train."""

    model: Model

    def groups(self) -> list[ParameterGroup]:
        """List what is trained."""
        ...

    def prepare(self) -> list[Resize]:
        """Do what comes before the first step (not called when a run is resumed); tell what was replaced."""
        ...

    def gradients(self, step: int, progress: float) -> StepReport:
        """Leave the gradients of one batch in the parameters."""
        ...

    def after_step(self, step: int, progress: float) -> list[Resize]:
        """Do what follows an update, for example refresh the occupancy grid; tell which parameters were replaced."""
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON from which `load_state` goes on with the same bits (weights not included)."""
        ...

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        ...

    def finish(self) -> None:
        """Bring `model` up to date for its file."""
        ...
