"""Tables without their empty rows: a bit for each row, and the rows that hold something.

A row is empty where all its bits are 0: +0.0 everywhere. So -0.0 and NaN are kept, and what comes back is the table to
the last bit.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from polyfield.errors import DataError
from polyfield.fields.ops.bits import pack_bits, unpack_bits

__all__ = ["pack_rows", "stored_values", "unpack_rows"]

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # of as many bytes as a float
_LEAST = 1 << 14  # bytes: what is smaller is not worth two entries in a header
_SHARE = 0.9  # of its bytes that a packed table may take, at most
# A table takes at most so many times the bytes that it was packed into: a small file cannot ask for all memory.
_FACTOR = 256


def pack_rows(
    table: Tensor,
) -> tuple[UInt8[Tensor, " B"], Float[Tensor, "K C"]] | None:
    """Leave the empty rows of a table out, if that is worth it.

    Args:
        table: Anything; only large tensors of floats in two dimensions of which a tenth or more is empty are packed.

    Returns:
        bits: One for each row: whether it was kept.
        kept: Those rows, in order.
        None where the table is better stored as it is.
    """
    kept = _kept(table)
    return None if kept is None else (pack_bits(kept), table[kept])


def unpack_rows(
    bits: UInt8[Tensor, " B"], kept: Float[Tensor, "K C"], rows: int
) -> Float[Tensor, "R C"]:
    """Undo `pack_rows`.

    Args:
        bits, kept: As it gave them, or as somebody claims.
        rows: Of the table.

    Raises:
        DataError: They do not fit together; nothing was allocated then.

    Example:
        >>> unpack_rows(torch.tensor([2], dtype=torch.uint8), torch.tensor([[5.0]]), 3).tolist()
        [[0.0], [5.0], [0.0]]
    """
    if bits.dtype != torch.uint8 or bits.shape != (-(-rows // 8),):
        raise DataError(f"{rows} rows need {-(-rows // 8)} bytes that say which are there.")
    if kept.ndim != 2 or not kept.is_floating_point():
        raise DataError("the rows must be floats in two dimensions.")
    there = unpack_bits(bits, rows)
    if int(there.sum()) != len(kept) or int(unpack_bits(bits, 8 * len(bits)).sum()) != len(kept):
        raise DataError(f"its bits speak of {int(there.sum())} rows, but {len(kept)} are there.")
    if rows * _row_bytes(kept) > _FACTOR * (bits.nbytes + kept.nbytes):
        raise DataError(f"{rows} rows of {kept.shape[1]} numbers are more than it may unfold to.")
    table = kept.new_zeros(rows, kept.shape[1])
    table[there] = kept
    return table


def stored_values(tensor: Tensor) -> int:
    """Count the numbers that a file holds of a tensor: those in kept rows where it is packed, else all."""
    kept = _kept(tensor)
    return tensor.numel() if kept is None else int(kept.sum()) * tensor.shape[1]


def _kept(table: Tensor) -> Tensor | None:
    """Which rows hold something, or None where the table is not to be packed."""
    if table.ndim != 2 or not table.is_floating_point() or table.nbytes < _LEAST:
        return None
    table = table.detach().contiguous()
    kept = (table.view(_INTEGERS[table.element_size()]) != 0).any(1)
    size = -(-len(table) // 8) + int(kept.sum()) * _row_bytes(table)
    worth = size <= _SHARE * table.nbytes and table.nbytes <= _FACTOR * size
    return kept if worth else None


def _row_bytes(table: Tensor) -> int:
    return int(table.shape[1]) * table.element_size()
