"""The gradient of a large table of which a step touches little.

A dense gradient of a 12-million-entry table costs a pass to clear, one to fill and one to read, every step. Here one
buffer lives as long as its parameter: backward passes add to it and mark the 64-byte lines they touched; the
optimiser reads the marked lines, and clears lines and marks as it goes.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from polyfield import native
from polyfield.errors import ShapeError

__all__ = [
    "LINE",
    "SparseGradient",
    "add_dense",
    "asked_for",
    "check_table",
    "diverted",
    "gradient_of_table",
]

LINE = 16
"""Floats in a line of 64 bytes: what one mark stands for."""


class SparseGradient:
    """Sum of gradients of a table [E, F], with a mark for each 64-byte line that was added to.

    Attributes:
        values: [E, F] float32. All zero between steps; zero wherever `touched` is.
        touched: [ceil(E F / 16)] uint8, 1 where a line (16 floats of `values`, flat) may be non-zero.

    Example:
        >>> gradient = SparseGradient(torch.zeros(16, 2))
        >>> gradient.add(torch.eye(16, 2))
        >>> gradient.touched.tolist()
        [1, 0]
    """

    values: Float[Tensor, "E F"]
    touched: UInt8[Tensor, " lines"]

    def __init__(self, table: Float[Tensor, "E F"]):
        fresh = torch.empty(table.shape, dtype=torch.float32, device=table.device)
        self.values = native.prefer_large_pages(fresh).zero_()
        lines = -(-table.numel() // LINE)
        self.touched = torch.zeros(lines, dtype=torch.uint8, device=table.device)

    def add(self, gradient: Float[Tensor, "E F"]) -> None:
        """Add a dense gradient and mark the lines in which it is not zero.

        Raises:
            ShapeError: `gradient` has another shape than the table.
        """
        if gradient.shape != self.values.shape:
            raise ShapeError(
                f"SparseGradient.add: the gradient must have the table's shape, "
                f"{tuple(self.values.shape)}, but is {tuple(gradient.shape)}."
            )
        add_dense(self.values, self.touched, gradient)

    def clear(self) -> None:
        """Set everything back to zero."""
        self.values.zero_()
        self.touched.zero_()


def add_dense(
    values: Float[Tensor, "E F"], touched: UInt8[Tensor, " lines"], gradient: Float[Tensor, "E F"]
) -> None:
    """Add a dense gradient to the two tensors of a `SparseGradient`, marking the lines in which it is not zero."""
    with torch.no_grad():
        values += gradient
        flat = gradient.reshape(-1) != 0
        padded = torch.nn.functional.pad(flat, (0, touched.numel() * LINE - flat.numel()))
        touched |= padded.reshape(-1, LINE).any(1).to(torch.uint8)


def diverted(table: Float[Tensor, "E F"], gradient: SparseGradient) -> Float[Tensor, "E F"]:
    """Give the table itself, but as a tensor whose gradient goes to a `SparseGradient`."""
    result: Tensor = _Divert.apply(table, gradient)  # type: ignore[no-untyped-call]
    return result


class _Divert(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, gradient: SparseGradient) -> Tensor:
        ctx.gradient = gradient
        return table.view_as(table)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, None]:
        ctx.gradient.add(upstream[0].to(torch.float32))
        return None, None


def asked_for(ctx: Any, argument: int) -> bool:
    """Whether the backward pass that runs asks for the gradient of an argument of an operation.

    `needs_input_grad` tells only that the argument has one: in `torch.autograd.grad(y, x)` it is true of the table
    too, and adding to a SparseGradient would then be wrong, not merely slow.

    Args:
        ctx: As torch gives it to the operation's backward function.
        argument: Its number, optional tensors coming last in the operation's schema: those before are counted alone.
    """
    if not ctx.needs_input_grad[argument]:
        return False
    try:
        return bool(torch._C._will_engine_execute_node(ctx.next_functions[argument][0]))
    except RuntimeError:  # autograd.grad asks for this very leaf
        return True


def gradient_of_table(
    ctx: Any, argument: int, dense: Callable[[], Tensor], add: Callable[[], None]
) -> Tensor | None:
    """Give the gradient of an operation's table, or add it to the sparse gradient that the operation was given.

    Args:
        ctx: As torch gives it to the operation's backward function; `ctx.values`: of the sparse gradient, or None.
        argument: Number of the table, as for `asked_for`.
        dense: Computes the gradient.
        add: Adds it to the sparse gradient.
    """
    if not asked_for(ctx, argument):
        return None
    if ctx.values is None:
        return dense()
    with torch.no_grad():
        add()
    return None


def check_table(
    operation: str,
    x: Tensor,
    table: Tensor,
    shape: tuple[int, int],
    gradient: SparseGradient | None,
) -> None:
    """Refuse a table that does not fit its grid, its points or its sparse gradient.

    Args:
        operation: Who asks.
        x: Points.
        table: Should be of this shape, and floats of the kind of the points, on their device.
        shape: Entries and features.
        gradient: Should be of this shape, or None.

    Raises:
        ShapeError: They are something else.
    """
    if table.shape != shape:
        raise ShapeError(
            f"{operation}: the table of this grid must be {list(shape)}, but is {list(table.shape)}."
        )
    if x.dtype != table.dtype or x.device != table.device or not x.dtype.is_floating_point:
        raise ShapeError(
            f"{operation}: x and table must be floats of one kind on one device, but are {x.dtype} on "
            f"{x.device} and {table.dtype} on {table.device}."
        )
    if gradient is not None and gradient.values.shape != shape:
        raise ShapeError(
            f"{operation}: the sparse gradient must be {list(shape)}, but is "
            f"{list(gradient.values.shape)}."
        )
