"""Multi-layer perceptron as one operation: a flat weight vector, all layers fused.

Axes: N points, P weights, R rows of an optional condition. Numbers are float32; `precision` says how they are
multiplied: "fp32", or "bf16" where the operands of every matrix product (inputs, activations, weights and, going back,
gradients) are rounded to the nearest bfloat16, ties to even, while sums, biases and activations stay float32.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from polyfield import native
from polyfield.errors import ConfigError, ShapeError, nearest
from polyfield.fields.ops.floats import check_floats
from polyfield.fields.ops.mlp_reference import mlp_reference
from polyfield.fields.ops.mlp_shape import ACTIVATIONS, OUTPUT_ACTIVATIONS, MlpShape

__all__ = ["ACTIVATIONS", "OUTPUT_ACTIVATIONS", "MlpShape", "mlp", "mlp_reference", "native_shape"]

PRECISIONS = ("fp32", "bf16")


def mlp(
    x: Float[Tensor, "N x"],
    weights: Float[Tensor, " P"],
    shape: MlpShape,
    precision: str = "fp32",
    *,
    condition: Float[Tensor, "R c"] | None = None,
    rows: Int32[Tensor, " N"] | None = None,
) -> Float[Tensor, "N out"]:
    """Run a multi-layer perceptron over points.

    With a condition, the input of point n is `x[n]` followed by `condition[rows[n]]`; it is never laid out in memory.

    A graph of the gradient (`create_graph=True`) is built by `mlp_reference` in fp32, so that second derivatives
    exist; a first derivative alone takes the kernel and the given precision.

    Args:
        x: Row-major, or the transposed view of a feature-major buffer [x, N]; both are read in place.
        weights: Flat, as `MlpShape` says.
        shape: Sizes; `shape.inputs` is x + c.
        precision: "fp32" or "bf16".
        condition: Rows shared by many points, such as an encoded direction for each ray.
        rows: Which row each point takes, in [0, R).

    Returns:
        Outputs, laid out as `x` is: row-major, or the transposed view of a feature-major buffer.

    Raises:
        ShapeError: A tensor does not fit `shape` or is not of floats, only one of `condition` and `rows` is given, or
            a row is asked for that is not there.
        ConfigError: An unknown precision.

    Example:
        >>> shape = MlpShape(inputs=2, outputs=1, width=16, hidden=1)
        >>> mlp(torch.ones(5, 2), torch.ones(shape.parameters), shape)[0].item()
        32.0
    """
    _check(x, weights, shape, precision, condition, rows)
    floats = (x, weights) if condition is None else (x, weights, condition)
    if not native.usable(*floats):
        return mlp_reference(x, weights, shape, precision, condition=condition, rows=rows)
    if x.stride(0) != 1 and x.stride(1) != 1:
        x = x.contiguous()
    if condition is not None and rows is not None:
        condition, rows = condition.contiguous(), rows.contiguous()
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in floats)
    keep = min(x.shape[0], _KEPT_BYTES // _bytes_a_point(shape, precision)) if wanted else 0
    arguments = (
        *(x, weights.contiguous(), condition, rows),
        *(_sizes(shape), _scales(shape), precision == "bf16", keep),
    )
    result: Tensor
    if not native.at_once(x):
        result, _ = torch.ops.polyfield.mlp(*arguments)
    elif wanted:
        result = _Mlp.apply(*arguments)  # type: ignore[no-untyped-call]
    else:
        result = _outputs(*arguments[:-1], None, 0)
    return result


# Of a call's saved activations; those of the points beyond are computed again.
_KEPT_BYTES = 256 << 20


def _bytes_a_point(shape: MlpShape, precision: str) -> int:
    columns = sum(columns for _, columns in shape.layers)
    smooth = shape.activation not in ("none", "relu")
    slopes = (shape.hidden if smooth else int(bool(shape.composition))) * shape.width
    return columns * (2 if precision == "bf16" else 4) + slopes * 4


def _check(
    x: Tensor,
    weights: Tensor,
    shape: MlpShape,
    precision: str,
    condition: Tensor | None,
    rows: Tensor | None,
) -> None:
    if precision not in PRECISIONS:
        raise ConfigError(
            f"mlp: there is no precision {precision!r}.{nearest(precision, PRECISIONS)}"
        )
    if (condition is None) != (rows is None):
        raise ShapeError("mlp: condition and rows must be given together.")
    if x.dim() != 2:
        raise ShapeError(f"mlp: x must have the shape [N, columns], but is {list(x.shape)}.")
    columns = x.shape[1]
    if condition is not None and rows is not None:
        if condition.dim() != 2 or rows.shape != x.shape[:1] or rows.dtype != torch.int32:
            raise ShapeError(
                "mlp: condition must have the shape [R, c] and rows be int32 of shape "
                f"[{x.shape[0]}], but are {list(condition.shape)} and {rows.dtype} of shape {list(rows.shape)}."
            )
        if not condition.shape[0] and rows.shape[0] and condition.shape[1]:
            raise ShapeError(
                f"mlp: {rows.shape[0]} points ask for rows of condition, but it has none."
            )
        columns += condition.shape[1]
    if columns != shape.inputs:
        raise ShapeError(
            f"mlp: x and condition must have {shape.inputs} columns together, but have {columns}."
        )
    if weights.shape != (shape.parameters,):
        raise ShapeError(
            f"mlp: weights must have the shape [{shape.parameters}], but are {list(weights.shape)}."
        )
    check_floats("mlp", x=x, weights=weights, condition=condition)


def native_shape(shape: MlpShape) -> Any:
    """Make the shape as the native module takes it."""
    return _native_shape(_sizes(shape), _scales(shape))


def _sizes(shape: MlpShape) -> list[int]:
    skips = sum(1 << layer for layer in shape.skips)
    kind = ACTIVATIONS.index(shape.activation)
    last = OUTPUT_ACTIVATIONS.index(shape.output_activation)
    sizes = [shape.inputs, shape.outputs, shape.width, shape.hidden]
    return [*sizes, kind, int(shape.bias), skips, last]


def _scales(shape: MlpShape) -> list[float]:
    return [shape.scale, *(shape.composition or (0.0, 0.0))]


def _shape(sizes: Sequence[int], scales: Sequence[float]) -> MlpShape:
    inputs, outputs, width, hidden, kind, bias, skips, last = sizes
    return MlpShape(
        inputs,
        outputs,
        width,
        hidden,
        activation=ACTIVATIONS[kind],
        scale=scales[0],
        output_activation=OUTPUT_ACTIVATIONS[last],
        skips=tuple(layer for layer in range(1, 9) if skips >> layer & 1),
        bias=bool(bias),
        composition=tuple(scales[1:]) if scales[1] else (),
    )


def _native_shape(sizes: Sequence[int], scales: Sequence[float]) -> Any:
    inputs, outputs, width, hidden, kind, bias, skips, last = sizes
    return native.core().MlpShape(
        *(inputs, outputs, width, hidden, kind, scales[0], bool(bias), skips),
        len(ACTIVATIONS) * last,  # numbered behind those of hidden layers there
        *scales[1:],
    )


def _place(matrix: Tensor) -> tuple[int, int, int]:
    """Address and strides. Of a single row or column torch may report any stride; one of ours must be 1."""
    point, feature = matrix.stride()
    if feature == 1 or (matrix.shape[1] == 1 and point != 1):
        return matrix.data_ptr(), point, 1
    return matrix.data_ptr(), 1, feature


def _like(matrix: Tensor, columns: int) -> Tensor:
    """An empty [N, columns] laid out as `matrix` is."""
    points = matrix.shape[0]
    if matrix.is_contiguous() or matrix.stride(1) == 1:
        return matrix.new_empty((points, columns))
    return matrix.new_empty((columns, points)).t()


def _input(x: Tensor, condition: Tensor | None, rows: Tensor | None) -> tuple[Any, ...]:
    if condition is None or rows is None:
        return (_place(x), x.shape[1], 0, 0, 0, 0)
    return (_place(x), x.shape[1], condition.data_ptr(), rows.data_ptr(), *condition.shape)


def _forward(
    x: Tensor,
    weights: Tensor,
    condition: Tensor | None,
    rows: Tensor | None,
    sizes: Sequence[int],
    scales: Sequence[float],
    bf16: bool,
    keep: int,
) -> tuple[Tensor, Tensor]:
    """Outputs, and what the backward pass needs of the first `keep` points."""
    saved = _room(sizes, scales, bf16, keep)
    return _outputs(x, weights, condition, rows, sizes, scales, bf16, saved, keep), saved


def _outputs(
    x: Tensor,
    weights: Tensor,
    condition: Tensor | None,
    rows: Tensor | None,
    sizes: Sequence[int],
    scales: Sequence[float],
    bf16: bool,
    saved: Tensor | None,
    keep: int,
) -> Tensor:
    y = _like(x, sizes[1])
    points = x.shape[0]
    fits = points == 0 or native.core().mlp_forward(
        _native_shape(sizes, scales),
        _input(x, condition, rows),
        weights.data_ptr(),
        bf16,
        _place(y),
        points,
        0 if saved is None else saved.data_ptr(),
        keep,
    )
    if not fits and condition is not None and rows is not None:
        lowest, highest = (int(edge) for edge in rows.aminmax())
        raise ShapeError(
            f"mlp: rows must be in 0..{condition.shape[0] - 1}, but hold {lowest}..{highest}."
        )
    return y


def _room(sizes: Sequence[int], scales: Sequence[float], bf16: bool, keep: int) -> Tensor:
    """Memory for what the forward pass leaves to the backward pass."""
    panel = native.core().mlp_saved_bytes(_native_shape(sizes, scales), bf16, 1) if keep else 0
    return torch.empty((keep + 63) // 64 * panel, dtype=torch.uint8)


def _forward_fake(
    x: Tensor,
    weights: Tensor,  # noqa: ARG001
    condition: Tensor | None,  # noqa: ARG001
    rows: Tensor | None,  # noqa: ARG001
    sizes: Sequence[int],
    scales: Sequence[float],
    bf16: bool,
    keep: int,
) -> tuple[Tensor, Tensor]:
    return _like(x, sizes[1]), _room(sizes, scales, bf16, keep)


def _backward(
    grad: Tensor,
    x: Tensor,
    weights: Tensor,
    condition: Tensor | None,
    rows: Tensor | None,
    y: Tensor,
    saved: Tensor,
    sizes: Sequence[int],
    scales: Sequence[float],
    bf16: bool,
    keep: int,
    wants: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    for_x, for_weights, for_condition = _backward_fake(
        grad, x, weights, condition, rows, y, saved, sizes, scales, bf16, keep, wants
    )
    if grad.stride(0) != 1 and grad.stride(1) != 1:
        grad = grad.contiguous()
    native.core().mlp_backward(
        _native_shape(sizes, scales),
        _input(x, condition, rows),
        weights.data_ptr(),
        bf16,
        _place(grad),
        _place(y) if sizes[7] else (0, 0, 0),
        _place(for_x) if wants[0] else (0, 0, 0),
        for_weights.data_ptr(),
        for_condition.data_ptr() if wants[1] else 0,
        x.shape[0],
        saved.data_ptr(),
        keep,
    )
    return for_x, for_weights, for_condition


def _backward_fake(
    grad: Tensor,  # noqa: ARG001
    x: Tensor,
    weights: Tensor,
    condition: Tensor | None,
    rows: Tensor | None,  # noqa: ARG001
    y: Tensor,  # noqa: ARG001
    saved: Tensor,  # noqa: ARG001
    sizes: Sequence[int],  # noqa: ARG001
    scales: Sequence[float],  # noqa: ARG001
    bf16: bool,  # noqa: ARG001
    keep: int,  # noqa: ARG001
    wants: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Empty gradients; what is not wanted has no elements."""
    return (
        _like(x, x.shape[1]) if wants[0] else x.new_empty(0),
        torch.empty_like(weights),
        torch.empty_like(condition) if wants[1] and condition is not None else x.new_empty(0),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weights, condition, rows, ctx.sizes, ctx.scales, ctx.bf16, ctx.keep = inputs
    y, saved = output
    ctx.save_for_backward(x, weights, condition, rows, saved, y if ctx.sizes[7] else None)


def _differentiate(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    x, weights, condition, rows, saved, y = ctx.saved_tensors
    for_x, for_weights, for_condition = ctx.needs_input_grad[:3]
    nothing = (None,) * 5  # for what is no tensor of floats
    if torch.is_grad_enabled():  # a graph of the gradient is wanted
        result = mlp_reference(
            x, weights, _shape(ctx.sizes, ctx.scales), condition=condition, rows=rows
        )
        asked = [(x, for_x), (weights, for_weights), (condition, for_condition)]
        found = iter(
            torch.autograd.grad(
                result, [t for t, wanted in asked if wanted], grads[0], create_graph=True
            )
        )
        return (*(next(found) if wanted else None for _, wanted in asked), *nothing)
    arguments = (
        *(grads[0], x, weights, condition, rows, x if y is None else y, saved),
        *(ctx.sizes, ctx.scales, ctx.bf16, ctx.keep, [for_x, for_condition]),
    )
    backward = _backward if native.at_once(grads[0]) else torch.ops.polyfield.mlp_backward
    to_x, to_weights, to_condition = backward(*arguments)
    return (
        to_x if for_x else None,
        to_weights if for_weights else None,
        to_condition if for_condition else None,
        *nothing,
    )


class _Mlp(torch.autograd.Function):
    """The operator's rules of differentiation, without its dispatcher."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        output = _forward(*inputs)
        _save(ctx, inputs, output)
        return output[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _differentiate(ctx, *grads)


_library = torch.library.Library("polyfield", "FRAGMENT")
_library.define(
    "mlp(Tensor x, Tensor weights, Tensor? condition, Tensor? rows, int[] sizes, float[] scales, bool bf16, "
    "SymInt keep) -> (Tensor, Tensor)"
)
_library.define(
    "mlp_backward(Tensor grad, Tensor x, Tensor weights, Tensor? condition, Tensor? rows, Tensor y, Tensor saved, "
    "int[] sizes, float[] scales, bool bf16, SymInt keep, bool[] wants) -> (Tensor, Tensor, Tensor)"
)
_library.impl("mlp", _forward, "CPU")
_library.impl("mlp_backward", _backward, "CPU")
torch.library.register_fake("polyfield::mlp", _forward_fake, lib=_library)
torch.library.register_fake("polyfield::mlp_backward", _backward_fake, lib=_library)
torch.library.register_autograd("polyfield::mlp", _differentiate, setup_context=_save, lib=_library)
