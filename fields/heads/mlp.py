"""Multi-layer perceptron as a head: a module that owns the flat weights of the fused operation."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Tensor, nn

from polyfield import native
from polyfield.errors import ConfigError
from polyfield.fields.native_form import Gradient
from polyfield.fields.ops.mlp import MlpShape, mlp, native_shape
from polyfield.fields.registry import ParameterGroup

__all__ = ["Config", "Mlp", "MlpConfig", "build", "initial_weights"]


@dataclass(frozen=True)
class MlpConfig:
    """What a config says about a multi-layer perceptron; inputs and outputs come from its neighbours.

    Attributes:
        width: Columns of each hidden layer.
        hidden: Number of hidden layers, 1..8.
        activation: "relu", "none", "sine", "softplus" or "gaussian".
        scale: Of the activation: sin(scale z), log(1 + exp(scale z)) / scale, exp(-max(scale z, 0) / 2). SIREN has 30.
        output_activation: Of the last layer: "none" or "sigmoid".
        skips: Layers that read the input again (0 is the first matrix).
        bias: Whether layers add a bias.
        composition: Two frequencies: the first hidden layer gives z + sin(m z) instead of its activation, m log-spaced
            over its columns from the one to the other. NeuRBF's decoders take [10, 100] for pictures, [30, 300] for
            shapes, two hidden layers of 64, biases and fp32: half a last digit of bf16 is more than a radian there.
        precision: "fp32" or "bf16" operands; sums are always fp32.
    """

    width: int = 64
    hidden: int = 2
    activation: str = "relu"
    scale: float = 1.0
    output_activation: str = "none"
    skips: tuple[int, ...] = ()
    bias: bool = False
    composition: tuple[float, ...] = ()
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16"):
            raise ConfigError(f"An MLP's precision is fp32 or bf16, not {self.precision!r}.")

    def shape(self, inputs: int, outputs: int) -> MlpShape:
        """Return the shape between a number of inputs and a number of outputs.

        Raises:
            ConfigError: A value out of its range.
        """
        return MlpShape(
            inputs,
            outputs,
            self.width,
            self.hidden,
            activation=self.activation,
            scale=self.scale,
            output_activation=self.output_activation,
            skips=self.skips,
            bias=self.bias,
            composition=self.composition,
        )


class Mlp(nn.Module):
    """A multi-layer perceptron with one flat parameter, `weights`.

    Matrices start from Glorot's uniform distribution, U(-a, a) with a = sqrt(6 / (in + out)) (Glorot and Bengio 2010),
    or, for sine, from that of SIREN (Sitzmann et al. 2020): U(-1/in, 1/in) in the first layer and
    U(-sqrt(6/in) / scale, sqrt(6/in) / scale) in the others. Biases start from zero, or for sine from
    U(-1/sqrt(in), 1/sqrt(in)).

    Args:
        shape: Sizes.
        generator: Where the random numbers come from, on the CPU.
        precision: "fp32" or "bf16", as `polyfield.fields.ops.mlp.mlp` has it.

    Example:
        >>> head = Mlp(MlpConfig(width=16, hidden=1).shape(3, 1), torch.Generator().manual_seed(0))
        >>> head(torch.zeros(5, 3)).shape
        torch.Size([5, 1])
    """

    def __init__(
        self, shape: MlpShape, generator: torch.Generator, precision: str = "fp32"
    ) -> None:
        super().__init__()
        self.shape = shape
        self.precision = precision
        self.weights = nn.Parameter(initial_weights(shape, generator))

    def forward(
        self,
        x: Float[Tensor, "N x"],
        condition: Float[Tensor, "R c"] | None = None,
        rows: Int32[Tensor, " N"] | None = None,
    ) -> Float[Tensor, "N out"]:
        """Run the network; see `polyfield.fields.ops.mlp.mlp`."""
        return mlp(x, self.weights, self.shape, self.precision, condition=condition, rows=rows)

    def native_network(self, gradient: Gradient) -> Any:
        """Make the native form: see `polyfield.fields.native_form`."""
        bf16, shape = self.precision == "bf16", native_shape(self.shape)
        weights = self.weights
        return native.core().NetworkHead(shape, weights.data_ptr(), bf16, gradient(weights))

    def groups(self) -> list[ParameterGroup]:
        """List what is trained: the weights."""
        return [ParameterGroup("weights", [self.weights])]


Config = MlpConfig


def build(config: MlpConfig, inputs: int, outputs: int, generator: torch.Generator) -> Mlp:
    """Make the head."""
    return Mlp(config.shape(inputs, outputs), generator, config.precision)


def initial_weights(shape: MlpShape, generator: torch.Generator) -> Float[Tensor, " P"]:
    """Draw flat weights for a shape, as `Mlp` says."""
    flat = torch.zeros(shape.parameters)
    for layer, matrix in enumerate(shape.split(flat)):
        out, inputs = matrix.shape
        if shape.activation != "sine":
            edge = math.sqrt(6 / (inputs + out))
        elif layer == 0:
            edge = 1 / inputs
        else:
            edge = math.sqrt(6 / inputs) / shape.scale
        matrix.uniform_(-edge, edge, generator=generator)
    if shape.activation == "sine":
        for bias, (_, inputs) in zip(shape.biases(flat), shape.layers, strict=False):
            edge = 1 / math.sqrt(inputs)
            bias.uniform_(-edge, edge, generator=generator)
    return flat
