"""The multi-layer perceptron in plain torch: what every kernel of it must compute."""

from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from polyfield.fields.ops.mlp_shape import MlpShape

__all__ = ["mlp_reference"]


def mlp_reference(
    x: Float[Tensor, "N x"],
    weights: Float[Tensor, " P"],
    shape: MlpShape,
    precision: str = "fp32",
    *,
    condition: Float[Tensor, "R c"] | None = None,
    rows: Int32[Tensor, " N"] | None = None,
) -> Float[Tensor, "N out"]:
    """Compute `mlp` in plain torch: the oracle of every kernel. Any float dtype, any device."""
    if condition is not None and rows is not None:
        x = torch.cat([x, condition.index_select(0, rows)], dim=1)
    product = _rounded_product if precision == "bf16" else _product
    biases = shape.biases(weights)
    h = x
    for layer, matrix in enumerate(shape.split(weights)):
        if layer in shape.skips:
            h = torch.cat([h, x], dim=1)
        h = product(h, matrix, biases[layer] if biases else None)
        if layer == 0 and shape.composition:
            h = h + torch.sin(h * h.new_tensor(shape.frequencies))
        elif layer < shape.hidden:
            h = _activate(h, shape)
    return torch.sigmoid(h) if shape.output_activation == "sigmoid" else h


def _activate(z: Tensor, shape: MlpShape) -> Tensor:
    if shape.activation == "relu":
        return z.relu()
    if shape.activation == "sine":
        return torch.sin(shape.scale * z)
    if shape.activation == "softplus":
        return torch.logaddexp(shape.scale * z, z.new_zeros(())) / shape.scale
    if shape.activation == "gaussian":
        return torch.exp(-0.5 * shape.scale * z.clamp(min=0))
    return z


def _product(h: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    return torch.nn.functional.linear(h, matrix, bias)


def _rounded_product(h: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = _RoundedProduct.apply(h, matrix)  # type: ignore[no-untyped-call]
    return result if bias is None else _RoundedBias.apply(result, bias)  # type: ignore[no-untyped-call]


def _rounded(t: Tensor) -> Tensor:
    return t.to(torch.bfloat16).to(t.dtype)


class _RoundedProduct(torch.autograd.Function):
    """A product of rounded operands whose gradients are products of rounded operands too."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, matrix: Tensor) -> Tensor:
        h, matrix = _rounded(h), _rounded(matrix)
        ctx.save_for_backward(h, matrix)
        return h @ matrix.t()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        h, matrix = ctx.saved_tensors
        grad = _rounded(grads[0])
        return grad @ matrix, grad.t() @ h


class _RoundedBias(torch.autograd.Function):
    """A bias is added unrounded; its gradient sums the same rounded gradients that the matrix gets."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, bias: Tensor) -> Tensor:  # noqa: ARG004
        return z + bias

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG004
        return grads[0], _rounded(grads[0]).sum(0)
