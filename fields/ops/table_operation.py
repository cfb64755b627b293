"""How torch learns of an operation that reads a table at points: its kernels, its shapes, its derivatives.

Four operations are made. NAME gives features; NAME_points_gradient and NAME_table_gradient are its derivatives, which
can be differentiated once more; NAME_scatter_ adds the gradient of the table to a `SparseGradient`. Second derivatives
are those of the reference: they are rarely wanted.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from polyfield import native
from polyfield.fields.ops.sparse_gradient import (
    SparseGradient,
    add_dense,
    asked_for,
    diverted,
    gradient_of_table,
)

__all__ = ["TableOperation"]

_library = torch.library.Library("polyfield", "FRAGMENT")


class TableOperation:
    """An operation of points and a table; `rest` is what else it takes: tensors without a gradient, then perhaps a key.

    Args:
        name: Of the operation.
        kernel: Of "forward", "points_gradient" or "scatter", then points, table and rest, it gives the kernel; that
            takes addresses: of the upstream gradient but for "forward", of the result, and for "scatter" of the marks.
        reference: The features in plain torch, of points, table and rest.
        width: The number of features, of table and rest.
        tensors: Names of the tensors: points, table, and those without a gradient.
        keyed: Whether a string follows them.
        upstream: Place of the upstream gradient among the tensors of a derivative.
    """

    def __init__(
        self,
        name: str,
        kernel: Callable[..., Callable[..., None]],
        reference: Callable[..., Tensor],
        width: Callable[..., int],
        *,
        tensors: tuple[str, ...] = ("x", "table"),
        keyed: bool = True,
        upstream: int = 2,
    ) -> None:
        self._name, self._kernel, self._reference, self._width = name, kernel, reference, width
        self._frozen, self._keyed, self._upstream = len(tensors) - 2, int(keyed), upstream
        self._register([f"Tensor {tensor}" for tensor in tensors])

    def __call__(
        self, x: Tensor, table: Tensor, *rest: Any, gradient: SparseGradient | None
    ) -> Tensor:
        """Compute the features, by the kernel where it can; backward passes add to `gradient` where one is given."""
        frozen, key = rest[: self._frozen], rest[self._frozen :]
        if not native.usable(*(t for t in (x, table, *frozen) if t.is_floating_point())):
            source = table if gradient is None else diverted(table, gradient)
            return self._reference(x, source, *rest)
        tensors = [t.contiguous() for t in (x, table, *frozen)]
        sparse = (None, None) if gradient is None else (gradient.values, gradient.touched)
        if not torch.is_grad_enabled() and native.at_once(x):
            return self._features(*tensors, *sparse, *key)
        features: Tensor = self._op("")(*tensors, *sparse, *key)
        return features

    def _op(self, derivative: str) -> Any:
        return getattr(torch.ops.polyfield, self._name + derivative)

    def _register(self, tensors: list[str]) -> None:
        derived = [*tensors[: self._upstream], "Tensor upstream", *tensors[self._upstream :]]
        sparse = ["Tensor? values", "Tensor? touched"]
        filled = ["Tensor(a!) values", "Tensor(b!)? touched"]
        for suffix, arguments, result, run, fake in (
            ("", tensors + sparse, "Tensor", self._features, self._fake_features),
            ("_points_gradient", derived + sparse, "Tensor", self._points_gradient, _like_x),
            ("_table_gradient", derived, "Tensor", self._table_gradient, _like_table),
            ("_scatter_", derived + filled, "()", self._scatter, _nothing),
        ):
            name = self._name + suffix
            schema = ", ".join(arguments + ["str key"] * self._keyed)
            _library.define(f"{name}({schema}) -> {result}")
            _library.impl(name, run, "CPU")
            torch.library.register_fake(f"polyfield::{name}", fake, lib=_library)
        for suffix, backward, keep in (
            ("", self._features_backward, self._keep),
            ("_points_gradient", self._points_gradient_backward, self._keep),
            ("_table_gradient", self._table_gradient_backward, self._keep_alone),
        ):
            torch.library.register_autograd(
                f"polyfield::{self._name}{suffix}", backward, setup_context=keep, lib=_library
            )

    # The kernels

    def _parts(self, arguments: tuple[Any, ...]) -> tuple[list[Any], tuple[Any, ...]]:
        """Points, table and rest, with the upstream gradient in its place; and the sparse gradient."""
        end = len(arguments) - self._keyed
        return [*arguments[: end - 2], *arguments[end:]], arguments[end - 2 : end]

    def _features(self, *arguments: Any) -> Tensor:
        (x, table, *rest), _ = self._parts(arguments)
        out: Tensor = x.new_empty(x.shape[0], self._width(table, *rest))
        self._kernel("forward", x, table, *rest)(out.data_ptr())
        return out

    def _fake_features(self, *arguments: Any) -> Tensor:
        (x, table, *rest), _ = self._parts(arguments)
        out: Tensor = x.new_empty(x.shape[0], self._width(table, *rest))
        return out

    def _points_gradient(self, *arguments: Any) -> Tensor:
        rest, _ = self._parts(arguments)
        upstream = rest.pop(self._upstream).contiguous()
        out = torch.empty_like(rest[0])
        self._kernel("points_gradient", *rest)(upstream.data_ptr(), out.data_ptr())
        return out

    def _scatter(self, *arguments: Any) -> None:
        rest, (values, touched) = self._parts(arguments)
        upstream = rest.pop(self._upstream).contiguous()
        marks = 0 if touched is None else touched.data_ptr()
        self._kernel("scatter", *rest)(upstream.data_ptr(), values.data_ptr(), marks)

    def _table_gradient(self, *arguments: Any) -> Tensor:
        values = torch.zeros_like(arguments[1])
        end = len(arguments) - self._keyed
        self._scatter(*arguments[:end], values, None, *arguments[end:])
        return values

    # The derivatives

    def _keep(self, ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        # The sparse gradient is no saved tensor: it changes between forward and backward, and may.
        end = len(inputs) - self._keyed
        self._keep_alone(ctx, (*inputs[: end - 2], *inputs[end:]), output)
        ctx.values, ctx.touched = inputs[end - 2 : end]

    def _keep_alone(self, ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        end = len(inputs) - self._keyed
        ctx.save_for_backward(*inputs[:end])
        ctx.key, ctx.values, ctx.touched = inputs[end:], None, None

    def _features_backward(self, ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        tensors = list(ctx.saved_tensors)
        tensors.insert(self._upstream, upstream)
        points, sparse = None, (ctx.values, ctx.touched)
        if asked_for(ctx, 0):
            points = self._op("_points_gradient")(*tensors, *sparse, *ctx.key)
        table = gradient_of_table(
            ctx,
            1,
            lambda: self._op("_table_gradient")(*tensors, *ctx.key),
            lambda: self._op("_scatter_")(*tensors, *sparse, *ctx.key),
        )
        return points, table, *(None,) * (self._frozen + 2 + self._keyed)

    def _points_gradient_backward(self, ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        return *self._second(ctx, 0, cotangent), *(None,) * (2 + self._keyed)

    def _table_gradient_backward(self, ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        return *self._second(ctx, 1, cotangent), *(None,) * self._keyed

    def _second(self, ctx: Any, by: int, cotangent: Tensor) -> list[Tensor | None]:
        """Differentiate the gradient to the points (by = 0) or to the table (1) by the reference."""
        tensors = list(ctx.saved_tensors)
        upstream = tensors.pop(self._upstream)
        with torch.enable_grad():
            x, table, upstream = (t.detach().requires_grad_() for t in (*tensors[:2], upstream))
            features = self._reference(x, table, *tensors[2:], *ctx.key)
            (first,) = torch.autograd.grad(features, (x, table)[by], upstream, create_graph=True)
            points, entries, given = torch.autograd.grad(
                first, (x, table, upstream), cotangent, allow_unused=True, materialize_grads=True
            )
        of_table = gradient_of_table(
            ctx, 1, lambda: entries, lambda: add_dense(ctx.values, ctx.touched, entries)
        )
        parts = [points, of_table, *(None,) * self._frozen]
        parts.insert(self._upstream, given)
        return parts


def _like_x(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _like_table(x: Tensor, table: Tensor, *_: Any) -> Tensor:  # noqa: ARG001
    return torch.empty_like(table)


def _nothing(*_: Any) -> None:
    return None
