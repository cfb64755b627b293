"""Gaussian neurons as a head (Bouzidi et al. 2025): radial in the features that an encoder gives, then linear."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Tensor, nn
from torch.nn.functional import linear

from polyfield import native
from polyfield.errors import ConfigError
from polyfield.fields.native_form import Gradient
from polyfield.fields.ops.mlp import native_shape
from polyfield.fields.ops.rbf_layer import RbfLayer, network_of, rbf_layer
from polyfield.fields.registry import ParameterGroup

__all__ = ["Config", "Rbf", "build"]


@dataclass(frozen=True)
class Config:
    """Gaussian neurons.

    Attributes:
        neurons: How many, 1 to 512. The paper takes 64, and 32 for radiance.
        precision: Of all neurons along all features at first; the paper takes 1. None: one over the number of features.
            For features of variance 1 a squared distance is then about 1, where in the paper's it is the number of
            features and every neuron starts next to 0.
        spread: Centres are at first uniform in [-spread, spread].
        linear: Whether a linear map of the features is added. Where all Gaussians have died away they give neither a
            value nor a gradient, as far from a surface, whose distance must have a sign there too. (The paper's first
            version adds an affine map of the coordinates.)
    """

    neurons: int = 64
    precision: float | None = None
    spread: float = 1e-4
    linear: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.neurons <= 512:
            raise ConfigError(f"rbf: neurons must be in 1..512, but is {self.neurons}.")
        if self.precision is not None and not self.precision > 0:
            raise ConfigError(f"rbf: precision must be above 0, but is {self.precision}.")
        if self.spread < 0:
            raise ConfigError(f"rbf: spread must be at least 0, but is {self.spread}.")


class Rbf(nn.Module):
    """Features to sums of Gaussians of them: see `polyfield.fields.ops.rbf_layer`.

    The linear layer starts uniform in +-1 / sqrt(neurons), bias included.

    Example:
        >>> head = build(Config(neurons=8), 3, 2, torch.Generator().manual_seed(0))
        >>> head(torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """

    def __init__(self, config: Config, inputs: int, outputs: int, generator: torch.Generator):
        super().__init__()
        size = (config.neurons, inputs)
        precision = 1 / inputs if config.precision is None else config.precision
        edge = 1 / math.sqrt(config.neurons)

        def uniform(edge: float, *size: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(size).uniform_(-edge, edge, generator=generator))

        self.centres = uniform(config.spread, *size)
        self.log_precisions = nn.Parameter(torch.full(size, math.log(precision)))
        self.weights = uniform(edge, outputs, config.neurons)
        self.bias = uniform(edge, outputs)
        edge = 1 / math.sqrt(inputs)
        self.skip = uniform(edge, outputs, inputs) if config.linear else None

    def forward(
        self,
        x: Float[Tensor, "N x"],
        condition: Float[Tensor, "R c"] | None = None,
        rows: Int32[Tensor, " N"] | None = None,
    ) -> Float[Tensor, "N out"]:
        """Decode features."""
        out = rbf_layer(x, self._layer(), condition=condition, rows=rows)
        if self.skip is None:
            return out
        own, shared = self.skip.split([x.shape[1], self.skip.shape[1] - x.shape[1]], 1)
        out = out + linear(x, own)
        if condition is None or rows is None:
            return out
        return out + linear(condition, shared).index_select(0, rows)

    def native_network(self, gradient: Gradient) -> Any | None:
        """Make the native form of Gaussians alone: see `polyfield.fields.native_form`."""
        if self.skip is not None:
            return None
        weights, shape = network_of(self._layer(), self.centres.shape[1])
        address = weights.data_ptr()
        # The native form keeps the weights alive, which are made of the parameters here.
        return native.core().SquaresHead(native_shape(shape), address, gradient(weights), weights)

    def _layer(self) -> RbfLayer:
        return RbfLayer(self.centres, self.log_precisions, self.weights, self.bias)

    def groups(self) -> list[ParameterGroup]:
        """List what is trained: neurons and the linear layer."""
        skip = () if self.skip is None else (self.skip,)
        return [
            ParameterGroup("neurons", [self.centres, self.log_precisions]),
            ParameterGroup("linear", [self.weights, self.bias, *skip]),
        ]


def build(config: Config, inputs: int, outputs: int, generator: torch.Generator) -> Rbf:
    """Make the head."""
    return Rbf(config, inputs, outputs, generator)
