"""The modules that encoders made of products of small grids share."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from polyfield import native
from polyfield.errors import ConfigError
from polyfield.fields.encoders._alternating import alternate
from polyfield.fields.encoders._growth import Sides, check_sides, next_side, share_of
from polyfield.fields.ops.factor_grid import FactorLayout, factor_grid
from polyfield.fields.ops.sparse_gradient import LINE, SparseGradient
from polyfield.fields.registry import Change, ParameterGroup, Resize

__all__ = ["FactorEncoder", "GrowingFactors", "check_growth"]

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}  # of interpolation over so many axes
_PARTS = 16  # of the table, one of which a penalty looks at
_MOST_SIDE = 1 << 14
_LATTICE = 1 << 21  # vertices of a lattice at which sums are wanted: 128 a side in space
_MOST_WANTED = 1 << 24  # channels times those of them at which any is: bounds time and memory
_SWEEPS = 4  # half as many cost 0.1 dB of a CP after 150 steps, twice as many gain nothing
_CHUNK = 1 << 20  # points asked about at a time


class FactorEncoder(nn.Module):
    """Coordinates [N, D] in [0, 1] to features [N, G C], float32: see `polyfield.fields.ops.factor_grid`.

    Attributes:
        layout: Which grids are multiplied.
        out_dim: G C.
        table: [V, C], the vertices of all factors.
        gradient: Where backward passes accumulate the table's gradient; `table.grad` stays None.

    Args:
        layout: Which grids are multiplied.
        fill: Gives the vertices of a fresh table their first values, in place.
    """

    def __init__(self, layout: FactorLayout, fill: Callable[[Tensor], object]) -> None:
        super().__init__()
        table = native.prefer_large_pages(torch.empty(layout.rows, layout.channels))
        fill(table)
        self._place(layout, table)

    def forward(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N GC"]:
        """Encode points."""
        return factor_grid(x, self.table, self.layout, gradient=self.gradient)

    def native_points(self) -> Any:
        """Make the native form for points [N, 3]: see `polyfield.fields.native_form`."""
        layout = self.layout
        return native.core().FactorGridPoints(
            layout.packed.data_ptr(),
            len(layout.first_rows),
            len(layout.groups),
            layout.channels,
            self.table.data_ptr(),
            self.gradient.values.data_ptr(),
            self.gradient.touched.data_ptr(),
        )

    def groups(self) -> list[ParameterGroup]:
        """List what is trained: the table."""
        return [ParameterGroup("table", [self.table], gradient=self.gradient)]

    def _place(self, layout: FactorLayout, table: Tensor) -> None:
        self.layout = layout
        self.out_dim = layout.out_dim
        self.table = nn.Parameter(table)
        self.gradient = SparseGradient(self.table)


class GrowingFactors(FactorEncoder):
    """The same of grids that are refined during training and may be made sparse, as TensoRF's (Chen et al. 2022).

    Values between the vertices of before are interpolated, so what each grid says changes nowhere by more than
    linear interpolation between the new vertices does.

    Args:
        layout_of: Gives the layout for a number of vertices along each side.
        side: Their number at first.
        sides: From which fractions of the run there are more.
        sparsity: Weight of the penalty: the sum over grids of the mean absolute value of their entries.
        fill: As for `FactorEncoder`.
    """

    def __init__(
        self,
        layout_of: Callable[[int], FactorLayout],
        side: int,
        sides: Sides,
        sparsity: float,
        fill: Callable[[Tensor], object],
    ) -> None:
        super().__init__(layout_of(side), fill)
        self._layout_of, self.side, self._sides, self._sparsity = layout_of, side, sides, sparsity

    @torch.no_grad()
    def regularise(self, progress: float) -> None:
        """Add the gradient of the penalty on a part of the table, another one each time."""
        if self._sparsity == 0.0:
            return
        layout, values = self.layout, self.gradient.values.view(-1)
        lines = len(self.gradient.touched)
        some = share_of(lines, _PARTS, progress)
        begin, end = some.start * LINE, min(some.stop * LINE, values.numel())
        ends = [*layout.first_rows[1:], layout.rows]
        for first, last in zip(layout.first_rows, ends, strict=True):
            low, high = (
                max(begin, first * layout.channels),
                min(end, last * layout.channels),
            )
            if low < high:
                weight = self._sparsity * _PARTS / ((last - first) * layout.channels)
                values[low:high].add_(self.table.view(-1)[low:high].sign(), alpha=weight)
        self.gradient.touched[some] = 1

    @torch.no_grad()
    def grow(self, progress: float, occupied: Callable[[Tensor], Tensor]) -> Change | None:
        """Refine the grids if it is time to."""
        del occupied  # grids over one or two axes run through all of space
        side = next_side(self._sides, progress, self.side)
        if side is None:
            return None
        layout, old = self._layout_of(side), self.table
        table = native.prefer_large_pages(torch.empty(layout.rows, layout.channels))
        torch.cat(list(_refined(old, self.layout, layout)), out=table)
        nearest = torch.cat(list(_nearest(self.layout, layout)))
        self.side = side
        self._place(layout, table)
        return Change({"side": side}, [Resize(old, self.table, nearest, self.gradient)])

    @torch.no_grad()
    def sum_to(
        self,
        bounds: Callable[[Tensor, float], tuple[Tensor, Tensor]],
        occupied: Callable[[Tensor], Tensor],
    ) -> None:
        """Take over sums by alternating least squares: see `polyfield.fields.registry.Summable`.

        They are asked for at the vertices of a lattice as fine as the grids, but of at most 128 a side in space: where
        each group has one grid along each axis, the sums between are just what is interpolated between these.
        """
        side, places = self._wanted(occupied)
        if not len(places):
            return
        least, most = bounds(places / (side - 1), 1.0 / (side - 1))
        layout = self._layout_of(side)
        # What nothing is wanted of, and what the least squares leave over, stays as random as it is.
        table = self.table[torch.cat(list(_nearest(self.layout, layout)))]
        alternate(table, layout, places, least, most, _SWEEPS)
        self.table.copy_(torch.cat(list(_refined(table, layout, self.layout))))

    def _wanted(self, occupied: Callable[[Tensor], Tensor]) -> tuple[int, Int[Tensor, "K D"]]:
        """A lattice, by its side, and its vertices that matter."""
        side = min(self.side, round(_LATTICE ** (1 / self.layout.dim)))
        while True:
            places = _near(side, self.layout.dim, occupied)
            if len(places) * self.layout.channels <= _MOST_WANTED:
                return side, places
            side = side * 4 // 5


def check_growth(kind: str, sides: Sides, sparsity: float) -> None:
    """Refuse settings that `GrowingFactors` cannot take.

    Raises:
        ConfigError: The schedule is none, or the weight is below 0.
    """
    check_sides(kind, sides, _MOST_SIDE)
    if not sparsity >= 0:
        raise ConfigError(f"{kind}: sparsity must not be below 0, but is {sparsity}.")


def _near(side: int, dim: int, occupied: Callable[[Tensor], Tensor]) -> Int[Tensor, "K D"]:
    """Vertices of the cells of a lattice that may hold something, and of cells beside these."""
    cells = side - 1
    parts = max(1, round(_LATTICE ** (1 / dim) / cells))  # small things may lie in a large cell
    shape = (cells * parts,) * dim
    found = torch.cat(
        [
            occupied((torch.stack(torch.unravel_index(some, shape), 1) + 0.5) / shape[0])
            for some in torch.arange(shape[0] ** dim).split(_CHUNK)
        ]
    ).view(shape)
    for axis in range(dim):
        inside = found.movedim(axis, -1).unflatten(-1, (cells, parts)).any(-1)
        # Vertex v is a corner of cells v - 1 and v, and beside these are v - 2 and v + 1.
        beside = nn.functional.pad(inside, (2, 2)).unfold(-1, 4, 1).any(-1)
        found = beside.movedim(-1, axis)
    return found.nonzero()


def _refined(table: Tensor, old: FactorLayout, new: FactorLayout) -> Iterator[Tensor]:
    """The vertices of each grid of a new layout, interpolated between those of the old one."""
    for before, after, row in zip(old.factors, new.factors, old.first_rows, strict=True):
        shape = (*reversed(before.sides), table.shape[1])  # the first axis runs fastest
        picture = table[row : row + before.rows].view(shape).movedim(-1, 0)[None]
        larger = nn.functional.interpolate(
            picture, size=after.sides[::-1], mode=_MODES[len(after.axes)], align_corners=True
        )
        yield larger[0].movedim(0, -1).reshape(-1, table.shape[1])


def _nearest(old: FactorLayout, new: FactorLayout) -> Iterator[Int64[Tensor, " V"]]:
    """For each vertex of a new layout the row of the nearest one of the old."""
    for before, after, row in zip(old.factors, new.factors, old.first_rows, strict=True):
        places, stride = torch.full((1,), row), 1
        for size, larger in zip(before.sides, after.sides, strict=True):
            along = torch.linspace(0, size - 1, larger).round().long()
            places = (places + stride * along[:, None]).flatten()
            stride *= size
        yield places
