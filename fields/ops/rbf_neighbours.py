"""Nearest neighbours among centres that stay: exact, by lists made beforehand.

The unit cube is cut into cells. Each lists the centres that can be among the K nearest of any of its points, and is
halved along each axis until that are few (csrc/bindings/rbf_neighbours.cpp). A point then looks its cell up and takes
the nearest of one or two vectors of distances; there is no search. A point outside the cube reads all centres.

Axes: N points, D coordinates, M centres, K neighbours.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polyfield import native
from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.ops.floats import check_floats
from polyfield.fields.ops.rbf_shape import MOST_NEIGHBOURS

__all__ = ["Neighbours", "nearest_reference"]

_CHUNK = 1 << 22  # distances at a time


class Neighbours:
    """Finds the K nearest of some centres.

    Distances are those of points times `extent`, in float32. Of centres at the same distance the one of the lower
    number is the nearer.

    Args:
        centres: Finite; anywhere, but quick for points in [0, 1]^D only. Held as it is: make another instance when it
            changes.
        extent: Lengths of the unit cube's sides, above 0.
        count: K, 1 to 16.

    Raises:
        ConfigError: There are fewer than K centres, or K is out of range.
        ShapeError: The centres have not 1 to 3 coordinates, or the extent has another number; or one is not of floats.

    Example:
        >>> corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> Neighbours(corners, torch.ones(2), 2)(torch.tensor([[0.9, 0.3]])).tolist()
        [[1, 0]]
    """

    def __init__(self, centres: Float[Tensor, "M D"], extent: Float[Tensor, " D"], count: int):
        if (
            centres.dim() != 2
            or not 1 <= centres.shape[1] <= 3
            or extent.shape != centres[:0].sum(0).shape
        ):
            raise ShapeError(
                f"Neighbours: centres must be [M, 1 to 3] and extent as long as one of them, but are "
                f"{list(centres.shape)} and {list(extent.shape)}."
            )
        check_floats("Neighbours", centres=centres, extent=extent)
        if not 1 <= count <= MOST_NEIGHBOURS or len(centres) < count:
            raise ConfigError(
                f"There can be 1 to {MOST_NEIGHBOURS} neighbours, and at least as many centres; not {count} neighbours "
                f"among {len(centres)} centres."
            )
        self.centres, self.extent, self.count = centres.contiguous(), extent.contiguous(), count
        self._index: Tensor | None = None
        if native.usable(centres, extent):
            builder = native.core().RbfIndexBuilder(
                self.centres.data_ptr(), *centres.shape, self.extent.data_ptr(), count
            )
            self._index = torch.empty(builder.size, dtype=torch.uint8)
            builder.write(self._index.data_ptr())

    @property
    def native_index(self) -> int:
        """Where the native lists lie; 0 where there are none. They live as long as this object."""
        return 0 if self._index is None else self._index.data_ptr()

    def __call__(self, x: Float[Tensor, "N D"]) -> Int[Tensor, "N K"]:
        """Number the nearest centres of points, near to far, int32; -1 for a point that is not finite.

        Raises:
            ShapeError: The points have another number of coordinates than the centres, or are not of floats.
        """
        if x.dim() != 2 or x.shape[1] != self.centres.shape[1]:
            raise ShapeError(
                f"Neighbours: x must be [N, {self.centres.shape[1]}], but is {list(x.shape)}."
            )
        check_floats("Neighbours", x=x)
        x = x.detach()
        if self._index is None or not native.usable(x):
            return nearest_reference(x, self.centres, self.extent, self.count)
        arguments = (x.contiguous(), self._index, self.count)
        if native.at_once(x):
            return _nearest(*arguments)
        ids: Tensor = torch.ops.polyfield.rbf_nearest(*arguments)
        return ids


def nearest_reference(
    x: Float[Tensor, "N D"], centres: Float[Tensor, "M D"], extent: Float[Tensor, " D"], count: int
) -> Int[Tensor, "N K"]:
    """Compute what `Neighbours` finds in plain torch, comparing every point with every centre."""
    x, centres, extent = x.detach().float(), centres.detach().float(), extent.detach().float()
    numbers = torch.arange(len(centres), device=x.device)
    found = [x.new_empty(0, count, dtype=torch.int32)]
    for points in x.split(max(1, _CHUNK // len(centres))):
        far = torch.zeros(len(points), len(centres), device=x.device)
        for axis in range(x.shape[1]):
            far += ((points[:, None, axis] - centres[:, axis]) * extent[axis]).square()
        # The bits of floats from 0 up rise as they do; behind them goes the number, which so decides between equals.
        order = (far.view(torch.int32).long() << 32) + numbers
        ids = order.topk(count, largest=False).values.to(torch.int32)
        found.append(ids.masked_fill(points.isfinite().all(1, keepdim=True).logical_not(), -1))
    return torch.cat(found)


def _nearest(x: Tensor, index: Tensor, count: int) -> Tensor:
    ids = torch.empty(x.shape[0], count, dtype=torch.int32)
    native.core().rbf_nearest(index.data_ptr(), x.data_ptr(), x.shape[0], ids.data_ptr())
    return ids


_library = torch.library.Library("polyfield", "FRAGMENT")
_library.define("rbf_nearest(Tensor x, Tensor index, int count) -> Tensor")
_library.impl("rbf_nearest", _nearest, "CPU")


@torch.library.register_fake("polyfield::rbf_nearest", lib=_library)
def _(x, index, count):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return x.new_empty(x.shape[0], count, dtype=torch.int32)
