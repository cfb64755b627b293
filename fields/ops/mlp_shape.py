"""Sizes of a multi-layer perceptron and the layout of its flat weights."""

from dataclasses import dataclass
from functools import cached_property
from math import prod

from jaxtyping import Float
from torch import Tensor

from polyfield.errors import ConfigError, nearest

__all__ = ["ACTIVATIONS", "OUTPUT_ACTIVATIONS", "MlpShape"]

ACTIVATIONS = ("none", "relu", "sine", "softplus", "gaussian")
OUTPUT_ACTIVATIONS = ("none", "sigmoid")


@dataclass(frozen=True)
class MlpShape:
    """Sizes of a multi-layer perceptron, and how its flat weights are laid out.

    The flat weights hold the matrices [out, in] of all layers, row-major, then (with `bias`) the bias vectors of all
    layers. A layer in `skips` reads the activations of the layer before and then the network's input again.

    Attributes:
        inputs: Columns of the input, >= 1, the condition's included.
        outputs: Columns of the output, >= 1.
        width: Columns of each hidden layer, 1..512. Multiples of 16 are fastest.
        hidden: Number of hidden layers, 1..8; there is one matrix more.
        activation: Of the hidden layers: "relu", "none", "sine" for sin(scale z), "softplus" for
            log(1 + exp(scale z)) / scale, or "gaussian" for exp(-max(scale z, 0) / 2).
        scale: Of the activation, > 0.
        output_activation: Of the last layer: "none" or "sigmoid".
        skips: Layers (0 is the first matrix) that read the input again, each in 1..hidden. The NeRF network of
            8 x 256 has (5,): its sixth matrix.
        bias: Whether layers add a bias.
        composition: Lowest and highest frequency: the first hidden layer gives z + sin(m z) instead of its activation,
            m log-spaced over its columns (NeuRBF; Chen et al. 2023). Empty: it does not.

    Raises:
        ConfigError: A value out of its range.

    Example:
        >>> MlpShape(inputs=32, outputs=16, width=64, hidden=2).parameters
        7168
    """

    inputs: int
    outputs: int
    width: int = 64
    hidden: int = 2
    activation: str = "relu"
    scale: float = 1.0
    output_activation: str = "none"
    skips: tuple[int, ...] = ()
    bias: bool = False
    composition: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, value, lowest, highest in (
            ("inputs", self.inputs, 1, 1 << 16),
            ("outputs", self.outputs, 1, 1 << 16),
            ("width", self.width, 1, 512),
            ("hidden", self.hidden, 1, 8),
        ):
            if not lowest <= value <= highest:
                raise ConfigError(f"MLP: {name} must be in {lowest}..{highest}, but is {value}.")
        if self.activation not in ACTIVATIONS:
            known = nearest(self.activation, ACTIVATIONS)
            raise ConfigError(f"MLP: there is no activation {self.activation!r}.{known}")
        if self.output_activation not in OUTPUT_ACTIVATIONS:
            raise ConfigError(
                f"MLP: output_activation must be 'none' or 'sigmoid', but is {self.output_activation!r}; "
                "apply others to the result."
            )
        if not self.scale > 0:
            raise ConfigError(f"MLP: scale must be above 0, but is {self.scale}.")
        if sorted(set(self.skips)) != list(self.skips) or any(
            not 1 <= layer <= self.hidden for layer in self.skips
        ):
            raise ConfigError(
                f"MLP: skips must be ascending layers in 1..{self.hidden}, but is {self.skips}."
            )
        low, high = self.composition if len(self.composition) == 2 else (0.0, 0.0)
        if self.composition and not 0 < low <= high:
            raise ConfigError(
                "MLP: composition must be empty or two frequencies above 0, the lower first, but is "
                f"{self.composition}."
            )

    @cached_property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of each matrix."""
        ends = [self.width] * self.hidden + [self.outputs]
        starts = [0] + [self.width] * self.hidden
        return tuple(
            (out, start + (self.inputs if layer == 0 or layer in self.skips else 0))
            for layer, (out, start) in enumerate(zip(ends, starts, strict=True))
        )

    @cached_property
    def parameters(self) -> int:
        """Length of the flat weights."""
        return sum(prod(layer) + (layer[0] if self.bias else 0) for layer in self.layers)

    @property
    def frequencies(self) -> list[float]:
        """Of the first hidden layer's columns, where it is composed; else none."""
        if not self.composition:
            return []
        low, high = self.composition
        last = max(self.width - 1, 1)
        return [low * (high / low) ** (column / last) for column in range(self.width)]

    def split(self, flat: Float[Tensor, " P"]) -> list[Float[Tensor, "out in"]]:
        """Return the matrices as views of the flat weights."""
        sizes = [prod(layer) for layer in self.layers]
        parts = flat[: sum(sizes)].split(sizes)
        return [part.view(layer) for part, layer in zip(parts, self.layers, strict=True)]

    def biases(self, flat: Float[Tensor, " P"]) -> list[Float[Tensor, " out"]]:
        """Return the bias vectors as views of the flat weights; none without `bias`."""
        if not self.bias:
            return []
        sizes = [out for out, _ in self.layers]
        return list(flat[flat.shape[0] - sum(sizes) :].split(sizes))
