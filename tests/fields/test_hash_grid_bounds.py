"""No point leads out of the entries of a level, whatever the grid."""

import itertools

import pytest
import torch
from torch import Tensor

from polyfield import native
from polyfield.fields.ops.hash_grid import GridGeometry, hash_grid, hash_grid_reference

GRIDS = [
    {"kind": "hash", "log2_table": 3},
    {"kind": "hash", "log2_table": 9},
    {"kind": "dense"},
    {"kind": "tiled"},
    {"layout": "torch-ngp", "log2_table": 9},
    {"layout": "torch-ngp-aligned", "log2_table": 9},
]


def table_of(geometry: GridGeometry) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(geometry.entries, geometry.features, generator=generator)


@pytest.mark.parametrize("dim", [2, 3, 4])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_a_dense_level_is_passed_by_less_than_its_length(grid: dict[str, object], dim: int) -> None:
    """It takes its length back once, so the last vertex of all must not lie farther behind."""
    for base, finest in itertools.product((1, 2, 3, 5), (1, 2, 7.3, 15)):
        settings = {"levels": 4, "base": base, "finest": max(base, finest)} | grid
        for level in GridGeometry(dim=dim, **settings).levels_table:  # type: ignore[arg-type]
            last = int(level.scale + level.shift) + 1
            farthest = sum(last * level.stride**axis for axis in range(dim))
            assert level.rule != 0 or farthest < 2 * level.entries


@pytest.mark.parametrize("features", [1, 2, 4, 8])
@pytest.mark.parametrize("dim", [2, 3, 4])
def test_a_level_of_one_entry(dim: int, features: int) -> None:
    """A vertex there lies up to D lengths behind the end; the levels behind it show whether it is overrun."""
    geometry = GridGeometry(dim=dim, levels=3, features=features, base=1, finest=4, kind="tiled")
    assert geometry.levels_table[0].entries == 1
    x = torch.rand(129, dim, generator=torch.Generator().manual_seed(0)).requires_grad_()
    table = table_of(geometry).requires_grad_()
    twins = x.detach().double().requires_grad_(), table.detach().double().requires_grad_()
    y, wanted = hash_grid(x, table, geometry), hash_grid_reference(*twins, geometry)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
    found = torch.autograd.grad(y, (x, table), upstream)
    other = torch.autograd.grad(wanted, twins, upstream.double())
    for ours, theirs in zip((y, *found), (wanted, *other), strict=True):
        # Three cells at most along an axis: float32 rounding of weights, and of sums over 129 points.
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(not native.available(), reason="the native module is not there")
@pytest.mark.parametrize(
    ("field", "value"), [(8, 0), (8, 4096 // 3), (16, 1)], ids=["no entries", "fewer", "no power"]
)
def test_kernels_refuse_a_level_that_points_could_leave(field: int, value: int) -> None:
    geometry = GridGeometry(levels=2, growth=1.382)
    assert geometry.levels_table[1].entries == 12168  # dense, and no power of two
    packed = geometry.packed.clone()
    packed[32:].view(torch.int32)[field // 4] = value
    x, table, out = torch.rand(9, 3), table_of(geometry), torch.zeros(geometry.out_dim, 9)
    core, job = native.core(), (2, 3, 2, False, 9, x.data_ptr(), 0)
    core.hash_grid_forward(geometry.packed.data_ptr(), *job, table.data_ptr(), out.data_ptr())
    assert out.any()
    upstream = (out.data_ptr(), *out.stride())
    for call in (
        lambda at: core.hash_grid_forward(at, *job, table.data_ptr(), out.data_ptr()),
        lambda at: core.hash_grid_scatter(at, *job, *upstream, table.data_ptr(), 0),
        lambda at: core.hash_grid_points_gradient(
            at, *job, table.data_ptr(), *upstream, x.data_ptr()
        ),
        lambda at: core.HashGridPoints(at, 2, 2, False, table.data_ptr(), 4, 0, 0),
    ):
        with pytest.raises(ValueError, match="leads out of its entries"):
            call(packed.data_ptr())
