"""Taking the same rows, or runs of rows, of several tensors in one pass."""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from polyfield import native
from polyfield.errors import ShapeError

__all__ = ["copy_runs", "copy_runs_reference", "take_rows"]


def take_rows(rows: Int64[Tensor, " M"], *tensors: Tensor) -> list[Tensor]:
    """Give `tensor[rows]` for each tensor.

    Args:
        rows: Which rows, from 0; all in range.
        tensors: Of the same number of rows, in any layout; the results are row-major. No gradient flows.

    Raises:
        ShapeError: `rows` is not int64 [M], a row number is out of range, or the tensors differ in their number of
            rows.

    Example:
        >>> take_rows(torch.tensor([2, 0]), torch.tensor([5.0, 6.0, 7.0]), torch.eye(3))[0].tolist()
        [7.0, 5.0]
    """
    shapes = [tensor.shape for tensor in tensors]
    if not shapes or not all(shape and shape[0] == shapes[0][0] for shape in shapes):
        raise ShapeError(
            f"take_rows: all tensors need the same number of rows, but are {[list(s) for s in shapes]}."
        )
    _check_indices("take_rows", rows=rows)
    if len(rows):
        length = shapes[0][0]
        low, high = (int(v) for v in rows.aminmax())
        if low < 0 or high >= length:
            raise ShapeError(f"take_rows: rows must be in 0..{length - 1}, but span {low}..{high}.")
    if not native.usable(rows) or not all(_words(tensor) for tensor in tensors):
        return [tensor.index_select(0, rows) for tensor in tensors]
    taken = [tensor.new_empty(len(rows), *tensor.shape[1:]) for tensor in tensors]
    native.core().take_rows(
        rows.contiguous().data_ptr(),
        len(rows),
        [(a.data_ptr(), b.data_ptr(), *_layout(a)) for a, b in zip(tensors, taken, strict=True)],
    )
    return taken


def copy_runs(
    to: Sequence[Tensor],
    to_starts: Int64[Tensor, " K"],
    tensors: Sequence[Tensor],
    starts: Int64[Tensor, " K"],
    counts: Int64[Tensor, " K"],
) -> None:
    """Copy runs of rows: `to[i][to_starts[k] + n] = tensors[i][starts[k] + n]` for n below counts[k].

    Args:
        to: Where to, in place; contiguous. What the runs do not cover stays. Runs must not overlap here.
        to_starts: First row of each run there.
        tensors: Where from, one for each of `to`, with rows like its.
        starts: First row of each run there.
        counts: Rows of each run.

    Raises:
        ShapeError: A run leaves a tensor, the tensors do not fit each other, or starts and counts are not int64 [K].

    Example:
        >>> to = torch.zeros(4)
        >>> runs = torch.tensor([2, 0]), [torch.arange(6.0)], torch.tensor([0, 4]), torch.tensor([1, 2])
        >>> copy_runs([to], *runs)
        >>> to.tolist()
        [4.0, 5.0, 0.0, 0.0]
    """
    if len(to) != len(tensors) or any(
        a.shape[1:] != b.shape[1:] or a.dtype != b.dtype or not a.is_contiguous()
        for a, b in zip(to, tensors, strict=False)
    ):
        raise ShapeError("copy_runs: each tensor needs a contiguous one of equal rows to go to.")
    if not to_starts.shape == starts.shape == counts.shape:
        raise ShapeError("copy_runs: starts and counts must have one entry for each run.")
    _check_indices("copy_runs", to_starts=to_starts, starts=starts, counts=counts)
    for name, first, sides in (("to_starts", to_starts, to), ("starts", starts, tensors)):
        length = min((len(side) for side in sides), default=0)
        if len(counts) and (
            int(torch.min(first.min(), counts.min())) < 0 or bool((first > length - counts).any())
        ):
            raise ShapeError(f"copy_runs: runs by {name} and counts must stay in 0..{length - 1}.")
    if not native.usable(starts) or not all(_words(tensor) for tensor in (*to, *tensors)):
        copy_runs_reference(to, to_starts, tensors, starts, counts)
        return
    runs = [x.contiguous() for x in (to_starts, starts, counts)]
    native.core().copy_runs(
        *(x.data_ptr() for x in runs),
        len(counts),
        [(b.data_ptr(), a.data_ptr(), *_layout(b)) for a, b in zip(to, tensors, strict=True)],
    )


def copy_runs_reference(
    to: Sequence[Tensor],
    to_starts: Int64[Tensor, " K"],
    tensors: Sequence[Tensor],
    starts: Int64[Tensor, " K"],
    counts: Int64[Tensor, " K"],
) -> None:
    """Compute `copy_runs` in plain torch."""
    ends = torch.cumsum(counts, 0)
    within = torch.arange(int(counts.sum())) - torch.repeat_interleave(ends - counts, counts)
    there, here = (torch.repeat_interleave(x, counts) + within for x in (to_starts, starts))
    for a, b in zip(to, tensors, strict=True):
        a[there] = b[here]


def _check_indices(operation: str, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.ndim != 1 or tensor.dtype != torch.int64:
            raise ShapeError(
                f"{operation}: {name} must be int64 in one dimension, but is {tensor.dtype} {list(tensor.shape)}."
            )


def _words(tensor: Tensor) -> bool:
    """Whether the kernels can copy its rows: elements of four bytes, whatever they mean."""
    return tensor.is_cpu and tensor.element_size() == 4 and tensor.dim() <= 2


def _layout(tensor: Tensor) -> tuple[int, int, int]:
    """Width, and strides of rows and of columns."""
    if tensor.dim() == 1:
        return 1, tensor.stride(0), 1
    return tensor.shape[1], tensor.stride(0), tensor.stride(1)
