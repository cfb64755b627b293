"""Total variation of a sparse lattice: what its neighbouring vertices differ by, and the gradient of that.

See: Rudin, Osher and Fatemi (1992); Fridovich-Keil and Yu et al. (2022), "Plenoxels", section 3.4, whose factor on
differences makes a weight mean the same at every size of a lattice.
"""

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.ops.sparse_gradient import SparseGradient
from polyfield.fields.ops.sparse_grid import check_index, take_kept

__all__ = ["add_total_variation", "total_variation"]

_EPS = 1e-9  # below the root, which has no slope at 0
_UNIT = 256.0  # vertices a side for which a difference counts as it is


def total_variation(
    table: Float[Tensor, "V C"],
    index: Int32[Tensor, "S S S"],
    vertices: Int32[Tensor, " M"],
    weights: Float[Tensor, " C"],
) -> Float[Tensor, ""]:
    """Mean over vertices of the sum over channels of weight * sqrt(dx^2 + dy^2 + dz^2 + 1e-9).

    dx is what the next vertex along x has more, times S / 256; 0 at the last one.

    Args:
        table: A row for each kept vertex.
        index: As for `sparse_grid`; vertices that are not kept count as 0.
        vertices: Which kept ones to take the mean over: places in the flat index, rising.
        weights: Of the channels.

    Returns:
        Differentiable, in plain torch: what `add_total_variation` adds the gradient of.
    """
    side, flat = index.shape[0], index.view(-1)
    places = vertices.long()
    own = take_kept(table, flat[places])
    squares = torch.full_like(own, _EPS)
    for axis in range(3):
        stride = side**axis
        inside = places // stride % side < side - 1
        after = take_kept(table, flat[torch.where(inside, places + stride, places)])
        squares = squares + (side / _UNIT * (after - own)).square()
    return (squares.sqrt() * weights).sum() / max(len(places), 1)


def add_total_variation(
    gradient: SparseGradient,
    table: Float[Tensor, "V C"],
    index: Int32[Tensor, "S S S"],
    vertices: Int32[Tensor, " M"],
    weights: Float[Tensor, " C"],
) -> None:
    """Add the gradient of `total_variation` with respect to the table.

    Args:
        gradient: Of the table.
        table, index, vertices, weights: As there.

    Raises:
        ShapeError: They do not fit together.
    """
    check_index("add_total_variation", index, table)
    _check(gradient, table, index, vertices, weights)
    if not len(vertices) or not len(table):
        return
    if not native.usable(table, weights):
        leaf = table.detach().requires_grad_()
        with torch.enable_grad():
            penalty = total_variation(leaf, index, vertices, weights)
        gradient.add(torch.autograd.grad(penalty, leaf)[0])
        return
    side = index.shape[0]
    table, index = table.detach().contiguous(), index.contiguous()
    vertices, weights = vertices.contiguous(), (weights / len(vertices)).contiguous()
    native.core().sparse_grid_variation(
        side,
        *table.shape,
        index.data_ptr(),
        table.data_ptr(),
        vertices.data_ptr(),
        len(vertices),
        weights.data_ptr(),
        side / _UNIT,
        _EPS,
        gradient.values.data_ptr(),
        gradient.touched.data_ptr(),
    )


def _check(
    gradient: SparseGradient, table: Tensor, index: Tensor, vertices: Tensor, weights: Tensor
) -> None:
    if gradient.values.shape != table.shape or weights.shape != table.shape[1:]:
        raise ShapeError(
            f"add_total_variation: the gradient must be {list(table.shape)} and weights [{table.shape[1]}], but they "
            f"are {list(gradient.values.shape)} and {list(weights.shape)}."
        )
    if vertices.dim() != 1 or vertices.dtype != torch.int32:
        raise ShapeError(
            f"add_total_variation: vertices must be int32 [M], but are {vertices.dtype} {list(vertices.shape)}."
        )
    if len(vertices):
        low, high = (int(v) for v in vertices.aminmax())
        if low < 0 or high >= index.numel():
            raise ShapeError(
                f"add_total_variation: vertices must lie in 0..{index.numel() - 1}, but reach from {low} to {high}."
            )
