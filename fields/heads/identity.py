"""No head: the features themselves are the outputs."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int32
from torch import Generator, Tensor, nn

from polyfield import native
from polyfield.errors import ConfigError
from polyfield.fields.heads._joined import joined
from polyfield.fields.native_form import Gradient
from polyfield.fields.registry import ParameterGroup

__all__ = ["Config", "Identity", "build"]


@dataclass(frozen=True)
class Config:
    """Nothing to choose."""


class Identity(nn.Module):
    """Features as they are, followed by the condition where there is one: so many columns."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns

    def forward(
        self,
        x: Float[Tensor, "N x"],
        condition: Float[Tensor, "R c"] | None = None,
        rows: Int32[Tensor, " N"] | None = None,
    ) -> Float[Tensor, "N out"]:
        """Hand on."""
        return joined(x, condition, rows)

    def invert(self, outputs: Float[Tensor, "N x"]) -> Float[Tensor, "N x"]:
        """Undo: see `polyfield.fields.registry.Invertible`."""
        return outputs

    def native_network(self, gradient: Gradient) -> Any:
        """Make the native form: see `polyfield.fields.native_form`."""
        del gradient  # nothing is trained
        return native.core().IdentityHead(self.columns)

    def groups(self) -> list[ParameterGroup]:
        """Nothing is trained."""
        return []


def build(config: Config, inputs: int, outputs: int, generator: Generator) -> Identity:  # noqa: ARG001
    """Make the head.

    Raises:
        ConfigError: It cannot give as many outputs as are wanted.
    """
    if inputs != outputs:
        raise ConfigError(
            f"identity: {outputs} outputs are wanted, but it gives its {inputs} inputs; make both the same, or take "
            "another head."
        )
    return Identity(outputs)
