"""The sum of all features: what TensoRF makes its raw density of (Chen et al. 2022)."""

import math
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int32
from torch import Generator, Tensor, nn

from polyfield import native
from polyfield.errors import ConfigError
from polyfield.fields.heads._joined import joined
from polyfield.fields.native_form import Gradient
from polyfield.fields.registry import ParameterGroup

__all__ = ["Config", "Sum", "build"]


@dataclass(frozen=True)
class Config:
    """Sum of features.

    Attributes:
        shift: Added to the sum. With density "softplus" TensoRF takes -10, so that space starts nearly empty.
    """

    shift: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.shift):
            raise ConfigError(f"sum: shift must be a finite number, but is {self.shift}.")


class Sum(nn.Module):
    """One column: the sum of a point's features, and of its condition where there is one, plus `shift`."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    def forward(
        self,
        x: Float[Tensor, "N x"],
        condition: Float[Tensor, "R c"] | None = None,
        rows: Int32[Tensor, " N"] | None = None,
    ) -> Float[Tensor, "N 1"]:
        """Add up."""
        return joined(x, condition, rows).sum(1, keepdim=True) + self.shift

    def total(self, outputs: Float[Tensor, "N 1"]) -> Float[Tensor, " N"]:
        """Find the sums behind outputs: see `polyfield.fields.registry.Summing`."""
        return outputs[:, 0] - self.shift

    def native_network(self, gradient: Gradient) -> Any:
        """Make the native form: see `polyfield.fields.native_form`."""
        del gradient  # nothing is trained
        return native.core().SumHead(self.shift)

    def groups(self) -> list[ParameterGroup]:
        """Nothing is trained."""
        return []


def build(config: Config, inputs: int, outputs: int, generator: Generator) -> Sum:  # noqa: ARG001
    """Make the head.

    Raises:
        ConfigError: More than one output is wanted.
    """
    if outputs != 1:
        raise ConfigError(
            f"sum: it gives one output, the sum of its {inputs} inputs, but {outputs} are wanted; as a density head it "
            "needs features = 1."
        )
    return Sum(config.shift)
