"""Taking the same rows of several tensors in one pass."""

from jaxtyping import Int64
from torch import Tensor

from polyfield import native
from polyfield.errors import ShapeError

__all__ = ["take_rows"]


def take_rows(rows: Int64[Tensor, " M"], *tensors: Tensor) -> list[Tensor]:
    """Give `tensor[rows]` for each tensor.

    Args:
        rows: Which rows; all in range.
        tensors: Of the same number of rows, in any layout; the results are row-major. No gradient flows.

    Raises:
        ShapeError: A row number is out of range, or the tensors differ in their number of rows.

    Example:
        >>> take_rows(torch.tensor([2, 0]), torch.tensor([5.0, 6.0, 7.0]), torch.eye(3))[0].tolist()
        [7.0, 5.0]
    """
    lengths = {tensor.shape[0] for tensor in tensors}
    if len(lengths) != 1:
        raise ShapeError(
            f"take_rows: all tensors need the same number of rows, but have {lengths}."
        )
    if len(rows):
        low, high = (int(v) for v in rows.aminmax())
        if low < 0 or high >= (length := lengths.pop()):
            raise ShapeError(f"take_rows: rows must be in 0..{length - 1}, but span {low}..{high}.")
    if not native.usable(rows, *tensors) or any(
        t.element_size() != 4 or t.dim() > 2 for t in tensors
    ):
        return [tensor.index_select(0, rows) for tensor in tensors]
    taken = [tensor.new_empty(len(rows), *tensor.shape[1:]) for tensor in tensors]
    native.core().take_rows(
        rows.contiguous().data_ptr(),
        len(rows),
        [
            (a.data_ptr(), b.data_ptr(), *((1, a.stride(0), 1) if a.dim() == 1 else _layout(a)))
            for a, b in zip(tensors, taken, strict=True)
        ],
    )
    return taken


def _layout(tensor: Tensor) -> tuple[int, int, int]:
    return tensor.shape[1], tensor.stride(0), tensor.stride(1)
