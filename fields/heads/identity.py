"""No head: the features themselves are the outputs."""

from dataclasses import dataclass

from jaxtyping import Float, Int32
from torch import Generator, Tensor, nn

from polyfield.errors import ConfigError
from polyfield.fields.heads._joined import joined
from polyfield.fields.registry import ParameterGroup

__all__ = ["Config", "Identity", "build"]


@dataclass(frozen=True)
class Config:
    """Nothing to choose."""


class Identity(nn.Module):
    """Features as they are, followed by the condition where there is one."""

    def forward(
        self,
        x: Float[Tensor, "N x"],
        condition: Float[Tensor, "R c"] | None = None,
        rows: Int32[Tensor, " N"] | None = None,
    ) -> Float[Tensor, "N out"]:
        """Hand on."""
        return joined(x, condition, rows)

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
    return Identity()
