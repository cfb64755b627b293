"""A layer of Gaussian neurons with a linear layer behind it, through the fused multi-layer perceptron.

Axes: N points, F features, M neurons, O outputs, R rows of an optional condition.

With the precision e^b of each neuron and feature and the centre mu,

    d^2 = sum_k e^b_k (x_k - mu_k)^2 = e^b . (x x) - 2 (e^b mu) . x + sum_k e^b_k mu_k^2,

so the squared distances are a linear layer of the features' squares and the features, the Gaussian is its activation,
and no kernel of its own is needed. The three terms cancel near a centre: an error of some last digits of the largest
term is left, and where it makes d^2 negative the activation takes 0.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from polyfield.errors import ShapeError
from polyfield.fields.ops.mlp import MlpShape, mlp

__all__ = ["RbfLayer", "distance_layer", "network_of", "rbf_layer", "rbf_layer_reference"]


@dataclass(frozen=True)
class RbfLayer:
    """Tensors of the layer.

    Attributes:
        centres: [M, F].
        log_precisions: [M, F], the natural logarithms b of what multiplies the squared differences.
        weights: [O, M], of the linear layer.
        bias: [O], of the linear layer.
    """

    centres: Float[Tensor, "M F"]
    log_precisions: Float[Tensor, "M F"]
    weights: Float[Tensor, "O M"]
    bias: Float[Tensor, " O"]


def rbf_layer(
    x: Float[Tensor, "N x"],
    layer: RbfLayer,
    *,
    condition: Float[Tensor, "R c"] | None = None,
    rows: Int32[Tensor, " N"] | None = None,
) -> Float[Tensor, "N O"]:
    """Sum Gaussians of the features: weights exp(-d^2 / 2) + bias.

    Args:
        x: Features, row-major or the transposed view of a feature-major buffer [x, N].
        layer: F is x + c.
        condition: Features shared by many points; they come behind those of `x`.
        rows: Which row of the condition each point takes, in [0, R).

    Returns:
        Laid out as `x` is. Differentiable twice; float32 on the CPU takes the kernel of `mlp`.

    Raises:
        ShapeError: Tensors do not fit each other.

    Example:
        >>> layer = RbfLayer(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 1), torch.zeros(1))
        >>> rbf_layer(torch.tensor([[0.0, 0.0], [1.0, 1.0]]), layer).flatten().tolist()
        [1.0, 0.3678794503211975]

    See: Bouzidi et al. 2025, "Gaussian RBFNet" (arXiv 2503.06762).
    """
    _check(x, layer, condition)
    flat, shape = network_of(layer, x.shape[1])
    if condition is not None:
        condition = _with_squares(condition)
    return mlp(_with_squares(x), flat, shape, condition=condition, rows=rows)


def network_of(layer: RbfLayer, own: int) -> tuple[Float[Tensor, " P"], MlpShape]:
    """Give the flat weights and the shape of the perceptron that is the layer.

    It takes the squares and the values of the first `own` features, and then those of the others.
    """
    matrix, constant = distance_layer(layer.centres, layer.log_precisions)
    neurons, features = layer.centres.shape
    squares, plain = matrix.split(features, 1)
    parts = squares[:, :own], plain[:, :own], squares[:, own:], plain[:, own:]
    first = torch.cat([part for part in parts if part.shape[1]], 1)
    flat = torch.cat([first.reshape(-1), layer.weights.reshape(-1), constant, layer.bias])
    outputs = layer.weights.shape[0]
    return flat, MlpShape(2 * features, outputs, neurons, 1, activation="gaussian", bias=True)


def rbf_layer_reference(
    x: Float[Tensor, "N x"],
    layer: RbfLayer,
    *,
    condition: Float[Tensor, "R c"] | None = None,
    rows: Int32[Tensor, " N"] | None = None,
) -> Float[Tensor, "N O"]:
    """Compute `rbf_layer` in plain torch from differences: any float dtype; it needs memory for N M F numbers."""
    if condition is not None and rows is not None:
        x = torch.cat([x, condition.index_select(0, rows)], 1)
    differences = x[:, None, :] - layer.centres
    distances = (layer.log_precisions.exp() * differences.square()).sum(-1)
    return torch.nn.functional.linear(torch.exp(-0.5 * distances), layer.weights, layer.bias)


def distance_layer(
    centres: Float[Tensor, "M F"], log_precisions: Float[Tensor, "M F"]
) -> tuple[Float[Tensor, "M 2F"], Float[Tensor, " M"]]:
    """Give the matrix and the constants that make squared distances of [x x, x].

    Example:
        >>> matrix, constant = distance_layer(torch.tensor([[3.0]]), torch.zeros(1, 1))
        >>> matrix.tolist(), constant.tolist()
        ([[1.0, -6.0]], [9.0])
    """
    precisions = log_precisions.exp()
    weighted = precisions * centres
    return torch.cat([precisions, -2 * weighted], 1), (weighted * centres).sum(1)


def _with_squares(x: Tensor) -> Tensor:
    """[x x, x], laid out as `x` is."""
    if x.stride(0) == 1:
        features = x.t()
        return torch.cat([features * features, features]).t()
    return torch.cat([x * x, x], 1)


def _check(x: Tensor, layer: RbfLayer, condition: Tensor | None) -> None:
    neurons, features = layer.centres.shape
    for name, tensor, wanted in (
        ("log_precisions", layer.log_precisions, (neurons, features)),
        ("weights", layer.weights, (layer.weights.shape[0], neurons)),
        ("bias", layer.bias, (layer.weights.shape[0],)),
    ):
        if tensor.shape != wanted:
            raise ShapeError(
                f"rbf_layer: {name} must be {list(wanted)}, but is {list(tensor.shape)}."
            )
    columns = 0 if condition is None else condition.shape[-1]
    if x.dim() != 2 or x.shape[1] + columns != features:
        raise ShapeError(
            f"rbf_layer: x must be [N, {features - columns}], beside a condition of {columns} columns, but is "
            f"{list(x.shape)}."
        )
