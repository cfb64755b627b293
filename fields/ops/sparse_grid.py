"""A lattice of which only some vertices are kept: coordinates in [0, 1]^3 to features, linear in between.

Where a scene is empty its vertices are dropped and count as 0, so a lattice can be fine where there is something: the
grid of Plenoxels (Fridovich-Keil and Yu et al. 2022, section 3.1).

Axes: N points, S vertices along a side, V vertices that are kept, C channels.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.ops.sparse_gradient import SparseGradient, check_table
from polyfield.fields.ops.table_operation import TableOperation

__all__ = [
    "MOST_CHANNELS",
    "MOST_SIDE",
    "check_index",
    "lattice_points",
    "sparse_grid",
    "sparse_grid_reference",
    "take_kept",
]

MOST_SIDE = 1024
"""Vertices along a side: their number fits 32 bits."""

MOST_CHANNELS = 1024
"""Features of a vertex."""


def sparse_grid(
    x: Float[Tensor, "N 3"],
    table: Float[Tensor, "V C"],
    index: Int32[Tensor, "S S S"],
    *,
    gradient: SparseGradient | None = None,
) -> Float[Tensor, "N C"]:
    """Interpolate linearly between the 8 vertices around each point.

    The outermost vertices lie on the borders of [0, 1], as those of `factor_grid`.

    Args:
        x: In [0, 1]. Beyond, coordinates are clamped: features go on constant and the gradient there is 0. A NaN gives
            NaN features, and no gradient.
        table: A row for each kept vertex.
        index: Row of the vertex at index[z, y, x]; anything that is not in 0..V-1 means a vertex that is not kept.
        gradient: If given, backward passes add the gradient of `table` there, and `table.grad` stays as it is.

    Returns:
        Differentiable twice; a kernel gives the value and the first derivatives. Exactly 0 in a cell of which no
        vertex is kept.

    Raises:
        ShapeError: A tensor has the wrong shape, dtype or device.

    Holds:
        Where all vertices are kept it is `factor_grid` of one box. Permuting points permutes features.

    Example:
        >>> index = torch.full((2, 2, 2), -1, dtype=torch.int32)
        >>> index[0, 0, 1] = 0  # at x = 1, y = z = 0
        >>> sparse_grid(torch.tensor([[0.5, 0.0, 0.0]]), torch.tensor([[4.0]]), index).tolist()
        [[2.0]]
    """
    if x.dim() != 2 or x.shape[1] != 3:
        raise ShapeError(f"sparse_grid: x must be [N, 3], but is {list(x.shape)}.")
    check_index("sparse_grid", index, table)
    check_table("sparse_grid", x, table, (table.shape[0], table.shape[1]), gradient)
    return _operation(x, table, index, gradient=gradient)


def sparse_grid_reference(
    x: Float[Tensor, "N 3"], table: Float[Tensor, "V C"], index: Int32[Tensor, "S S S"]
) -> Float[Tensor, "N C"]:
    """Compute `sparse_grid` in plain torch, in the precision of its arguments."""
    side, flat = index.shape[0], index.view(-1)
    places = torch.zeros(len(x), 1, dtype=torch.int64, device=x.device)
    weights = torch.ones(len(x), 1, dtype=x.dtype, device=x.device)
    for axis in range(3):
        q = x[:, axis].clamp(0, 1) * (side - 1)
        cell = q.detach().nan_to_num(0.0).floor().clamp(max=side - 2)
        t = q - cell
        low = places + side**axis * cell.long()[:, None]
        places = torch.cat([low, low + side**axis], 1)
        weights = torch.cat([weights * (1 - t)[:, None], weights * t[:, None]], 1)
    return (weights[:, :, None] * take_kept(table, flat[places])).sum(1)


def take_kept(table: Float[Tensor, "V C"], rows: Int32[Tensor, "..."]) -> Float[Tensor, "... C"]:
    """Rows of a table, and 0 for rows that it does not have."""
    if not len(table):
        return table.new_zeros(*rows.shape, table.shape[1]) + table.sum()
    kept = (rows >= 0) & (rows < len(table))
    return torch.where(kept[..., None], table[torch.where(kept, rows, 0).long()], 0.0)


def lattice_points(places: Int32[Tensor, " M"], side: int) -> Float[Tensor, "M 3"]:
    """Where vertices of a lattice lie in [0, 1]^3, by their places in the flat index.

    Example:
        >>> lattice_points(torch.tensor([0, 1, 26]), 3).tolist()
        [[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    numbers = torch.stack([places % side, places // side % side, places // (side * side)], 1)
    return numbers.float() / (side - 1)


def check_index(operation: str, index: Tensor, table: Tensor) -> None:
    """Refuse an index that is none of a cube, or a table of other axes."""
    side = index.shape[0] if index.dim() else 0
    cube = index.dim() == 3 and len(set(index.shape)) == 1 and index.dtype == torch.int32
    if not cube or not 2 <= side <= MOST_SIDE or index.device != table.device:
        raise ShapeError(
            f"{operation}: the index must be int32 [S, S, S], S from 2 to {MOST_SIDE}, on the table's device, but is "
            f"{index.dtype} {list(index.shape)} on {index.device}."
        )
    if table.dim() != 2 or not 1 <= table.shape[1] <= MOST_CHANNELS or len(table) >= 2**31:
        raise ShapeError(
            f"{operation}: the table must be [V, C], C from 1 to {MOST_CHANNELS}, but is {list(table.shape)}."
        )


def _kernel(which: str, x: Tensor, table: Tensor, index: Tensor) -> Callable[..., None]:
    return partial(
        getattr(native.core(), f"sparse_grid_{which}"),
        index.shape[0],
        *table.shape,
        index.data_ptr(),
        table.data_ptr(),
        x.data_ptr(),
        x.shape[0],
    )


_operation = TableOperation(
    "sparse_grid",
    _kernel,
    sparse_grid_reference,
    width=lambda table, _: table.shape[1],
    tensors=("x", "table", "index"),
    keyed=False,
    upstream=3,
)
