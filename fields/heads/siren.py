"""Sine network as location encoders use it (SirenNet of Russwurm et al. 2024, after Sitzmann et al. 2020).

Unlike the fused perceptron with sines (`mlp`), the first layer has a frequency of its own, and layers are initialised
for the frequency that they have.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int32
from torch import Generator, Tensor, nn

from polyfield.errors import ConfigError
from polyfield.fields.heads._joined import joined
from polyfield.fields.registry import ParameterGroup

__all__ = ["Config", "Siren", "build"]


@dataclass(frozen=True)
class Config:
    """Sine network.

    Attributes:
        width: Columns of each hidden layer.
        hidden: Number of hidden layers; the output layer is linear.
        first: Frequency of the first layer: sin(first (W x + b)).
        frequency: Of the other layers.
    """

    width: int = 64
    hidden: int = 2
    first: float = 30.0
    frequency: float = 1.0

    def __post_init__(self) -> None:
        for name, most in (("width", 4096), ("hidden", 16)):
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(
                    f"siren: {name} must be in 1..{most}, but is {getattr(self, name)}."
                )
        for name in ("first", "frequency"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"siren: {name} must be above 0, but is {getattr(self, name)}.")


class Siren(nn.Module):
    """y = W_n sin(w (W x + b)) + b_n over n layers, w the layer's frequency.

    The first layer starts from U(-1/in, 1/in), the others from U(-a, a), a = sqrt(6 / in) / frequency, biases as their
    layer's weights.
    """

    def __init__(self, config: Config, inputs: int, outputs: int, generator: Generator) -> None:
        super().__init__()
        widths = [inputs, *[config.width] * config.hidden, outputs]
        self.frequencies = [config.first, *[config.frequency] * (config.hidden - 1)]
        matrices: list[nn.Parameter] = []
        biases: list[nn.Parameter] = []
        for layer, (start, end) in enumerate(pairwise(widths)):
            edge = 1.0 / start if layer == 0 else math.sqrt(6.0 / start) / config.frequency
            for shape, into in (((end, start), matrices), ((end,), biases)):
                drawn = torch.empty(shape).uniform_(-edge, edge, generator=generator)
                into.append(nn.Parameter(drawn))
        self.matrices, self.biases = nn.ParameterList(matrices), nn.ParameterList(biases)

    def forward(
        self,
        x: Float[Tensor, "N x"],
        condition: Float[Tensor, "R c"] | None = None,
        rows: Int32[Tensor, " N"] | None = None,
    ) -> Float[Tensor, "N out"]:
        """Run the network on x, followed by the condition's rows where there is one."""
        x = joined(x, condition, rows)
        *hidden, last = zip(self.matrices, self.biases, strict=True)
        for frequency, (matrix, bias) in zip(self.frequencies, hidden, strict=True):
            x = torch.sin(frequency * nn.functional.linear(x, matrix, bias))
        return nn.functional.linear(x, *last)

    def groups(self) -> list[ParameterGroup]:
        """List what is trained."""
        return [
            ParameterGroup("matrices", list(self.matrices)),
            ParameterGroup("biases", list(self.biases)),
        ]


def build(config: Config, inputs: int, outputs: int, generator: Generator) -> Siren:
    """Make the head."""
    return Siren(config, inputs, outputs, generator)
