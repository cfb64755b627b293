import pytest
import torch
from torch import Tensor

from polyfield import native
from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.encoders.hash_grid import HashGrid, HashGridConfig
from polyfield.fields.ops.hash_grid import GridGeometry, hash_grid, hash_grid_reference
from polyfield.fields.ops.hash_grid_reference import hash_grid_entries
from polyfield.fields.ops.sparse_gradient import SparseGradient
from polyfield.fields.registry import build_encoder

KINDS = [
    ("tcnn", "hash"),
    ("tcnn", "dense"),
    ("tcnn", "tiled"),
    ("torch-ngp", "hash"),
    ("torch-ngp-aligned", "hash"),
]
# Kernels locate points in float32: in a lattice of 40 cells the place in a cell is wrong by up to 40 * 2^-24 = 2.4e-6,
# entries are about 1, and sums of some hundred terms grow it by less than ten.
TOLERANCE = 2.5e-5


def small(dim: int = 3, features: int = 2, **changes: object) -> GridGeometry:
    settings = {"levels": 4, "log2_table": 9, "base": 3, "finest": 40} | changes
    if settings.get("kind", "hash") != "hash":
        settings["finest"] = 15
    return GridGeometry(dim=dim, features=features, **settings)  # type: ignore[arg-type]


def points(count: int, dim: int, seed: int = 0) -> Tensor:
    x = torch.rand(count, dim, generator=torch.Generator().manual_seed(seed))
    x[1::2] = (x[::2][: len(x[1::2])] + 1e-3).clamp(max=1)  # neighbours in one cell, as along a ray
    return x


def table_of(geometry: GridGeometry, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(geometry.entries, geometry.features, generator=generator)


def relative(ours: Tensor, wanted: Tensor) -> float:
    return ((ours - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6)).item()


# --- geometry: values of tiny-cuda-nn and torch-ngp ---


def test_levels_of_the_default_grid() -> None:
    geometry = GridGeometry()
    assert geometry.per_level_scale == pytest.approx(1.381912879967776, abs=1e-15)
    wanted = (16, 23, 31, 43, 59, 81, 112, 154, 213, 295, 407, 562, 777, 1073, 1483, 2048)
    assert geometry.resolutions == wanted
    # four decimals are what the golden values were printed with
    assert geometry.scales[:4] == pytest.approx((15, 21.1106, 29.5549, 41.2243), abs=5.1e-5)
    assert geometry.offsets[:3] == (0, 4096, 4096 + 12168)


@pytest.mark.parametrize(
    ("geometry", "count"),
    [
        (GridGeometry(), 12_196_240),
        (GridGeometry(levels=8, features=4), 11_681_792),
        (GridGeometry(growth=2.0), 14_229_504),
        (GridGeometry(layout="torch-ngp", finest=1024, log2_table=14), 492_928),
        (GridGeometry(layout="torch-ngp", finest=1024, log2_table=15), 934_928),
        (GridGeometry(layout="torch-ngp", finest=1024, log2_table=16), 1_765_568),
        (GridGeometry(layout="torch-ngp", finest=1024, log2_table=17), 3_326_288),
        (GridGeometry(layout="torch-ngp", finest=1024, log2_table=18), 6_209_872),
        (GridGeometry(layout="torch-ngp", finest=1024, log2_table=19), 11_477_728),
    ],
)
def test_parameter_counts(geometry: GridGeometry, count: int) -> None:
    assert geometry.entries * geometry.features == count


@pytest.mark.parametrize(
    ("corner", "log2_table", "entry"),
    [
        ((123, 456, 789), 19, 470_282),
        ((123, 456, 789), 14, 11_530),
        ((123, 456, 789), 31, 635_907_338),
        ((1, 1, 1), 31, 2_922_720_805 % 2**31),
        ((2047, 2047, 2047), 31, 4_281_096_667 % 2**31),
        ((5, 7), 24, 8_672_210),
    ],
)
def test_hash_values(corner: tuple[int, ...], log2_table: int, entry: int) -> None:
    geometry = GridGeometry(
        dim=len(corner), levels=1, base=2**18, finest=2**18, log2_table=log2_table
    )
    level = geometry.levels_table[0]
    assert level.rule == 1
    assert hash_grid_entries(torch.tensor(corner), level).item() == entry


def test_a_dense_level_counts_x_fastest_and_wraps_at_its_end() -> None:
    level = GridGeometry().levels_table[1]
    assert hash_grid_entries(torch.tensor([3, 2, 1]), level).item() == 3 + 2 * 23 + 23**2
    assert hash_grid_entries(torch.tensor([23, 23, 23]), level).item() == (
        23 + 23**2 + 23**3 - 12168
    )


def test_too_fine_levels_are_hashed_even_where_the_product_would_wrap() -> None:
    # 2^11 ^ 3 = 2^33 does not fit 32 bits, 1626 is the first resolution that is over the limit
    assert GridGeometry(levels=1, base=1626, finest=1626, log2_table=31).levels_table[0].rule == 1


# --- agreement of the kernels with the reference in float64 (run again for each instruction set) ---


@pytest.mark.parametrize(("layout", "kind"), KINDS)
@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
@pytest.mark.parametrize("features", [1, 2, 4, 8])
@pytest.mark.parametrize("dim", [2, 3, 4])
def test_agreement_to_second_order(
    dim: int, features: int, interpolation: str, layout: str, kind: str
) -> None:
    geometry = small(dim, features, interpolation=interpolation, layout=layout, kind=kind)
    x = points(37, dim)
    x[:3] = torch.tensor([[1.0], [0.0], [1.5]])
    upstream, along = torch.randn(37, geometry.out_dim), torch.randn(37, dim)
    cotangent = table_of(geometry, 2)

    def everything(dtype: torch.dtype) -> list[Tensor]:
        leaves = [t.to(dtype).requires_grad_() for t in (x, table_of(geometry), upstream)]
        y = hash_grid(leaves[0], leaves[1], geometry, max_level=3)
        first = torch.autograd.grad((y * leaves[2]).sum(), leaves[:2], create_graph=True)
        inner = (first[0] * along.to(dtype)).sum() + (first[1] * cotangent.to(dtype)).sum()
        return [y, *first, *torch.autograd.grad(inner, leaves)]

    for ours, wanted in zip(everything(torch.float32), everything(torch.float64), strict=True):
        assert ours.dtype == torch.float32
        assert relative(ours, wanted) < TOLERANCE


@pytest.mark.parametrize("count", [0, 1, 15, 17, 1024, 5001])
def test_agreement_for_any_number_of_points(count: int) -> None:
    geometry = small()
    x, table = points(count, 3), table_of(geometry).requires_grad_()
    y = hash_grid(x, table, geometry)
    assert y.shape == (count, geometry.out_dim)
    assert y.t().is_contiguous()
    if count == 0:
        return
    assert relative(y, hash_grid_reference(x.double(), table.double(), geometry)) < TOLERANCE
    y.pow(2).sum().backward()
    twin = table.detach().double().requires_grad_()
    hash_grid_reference(x.double(), twin, geometry).pow(2).sum().backward()
    assert relative(table.grad, twin.grad) < TOLERANCE  # type: ignore[arg-type]


@pytest.mark.parametrize("lay", ["rows", "columns", "slices", "expanded"])
def test_agreement_for_any_strides_of_the_upstream_gradient(lay: str) -> None:
    geometry = small(features=4)
    count, width = 100, geometry.out_dim
    upstream = {
        "rows": torch.randn(count, width),
        "columns": torch.randn(width, count).t(),
        "slices": torch.randn(2 * count, 3 * width)[::2, width:-width],
        "expanded": torch.randn(1, 1).expand(count, width),
    }[lay]
    x, table = points(count, 3).requires_grad_(), table_of(geometry).requires_grad_()
    grads = torch.autograd.grad(hash_grid(x, table, geometry), (x, table), upstream)
    twins = x.detach().double().requires_grad_(), table.detach().double().requires_grad_()
    wanted = torch.autograd.grad(hash_grid_reference(*twins, geometry), twins, upstream.double())
    for ours, other in zip(grads, wanted, strict=True):
        assert relative(ours, other) < TOLERANCE


def test_agreement_in_finest_lattice() -> None:
    geometry = GridGeometry(levels=2, log2_table=19, base=16, finest=2048)
    x, table = points(4096, 3), table_of(geometry)
    # 2048 * 2^-24 = 1.2e-4 in the place within a cell, in each of three axes, between entries up to 6 apart
    wanted = hash_grid_reference(x.double(), table.double(), geometry)
    assert (hash_grid(x, table, geometry) - wanted).abs().max() < 2e-3


# --- the reference itself ---


@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
@pytest.mark.parametrize("dim", [2, 3])
def test_reference_passes_gradcheck(dim: int, interpolation: str) -> None:
    geometry = small(dim, 2, levels=2, log2_table=5, finest=5, interpolation=interpolation)
    # half a cell from every wall of both lattices at the most: finite differences must not straddle one
    x = torch.tensor([[0.21, 0.33, 0.42], [0.61, 0.84, 0.47]], dtype=torch.float64)[:, :dim]
    inputs = (x.clone().requires_grad_(), table_of(geometry).double().requires_grad_())
    assert torch.autograd.gradcheck(lambda *a: hash_grid(*a, geometry), inputs)
    assert torch.autograd.gradgradcheck(lambda *a: hash_grid(*a, geometry), inputs)


# --- laws ---


def test_equal_entries_give_that_value_everywhere() -> None:
    for interpolation in ("linear", "smoothstep"):
        geometry = small(interpolation=interpolation)
        y = hash_grid(points(100, 3), torch.full((geometry.entries, 2), 3.0), geometry)
        # weights of 8 corners are rounded products; their sum is 1 to a few 2^-24
        torch.testing.assert_close(y, torch.full_like(y, 3.0), rtol=1e-6, atol=0)


def test_a_dense_linear_grid_reproduces_a_plane() -> None:
    geometry = GridGeometry(dim=2, levels=1, features=1, base=5, finest=5, kind="dense")
    column, row = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="xy")
    table = torch.zeros(geometry.entries, 1)
    table[:25, 0] = (2 * column + 3 * row).reshape(-1)
    x = torch.rand(50, 2) * 0.8  # beyond 7/8 the staggered lattice wraps
    wanted = 2 * (4 * x[:, 0] + 0.5) + 3 * (4 * x[:, 1] + 0.5)
    torch.testing.assert_close(hash_grid(x, table, geometry)[:, 0], wanted)


def test_levels_above_the_mask_are_zero_and_get_no_gradient() -> None:
    geometry = small()
    table = table_of(geometry).requires_grad_()
    x = points(64, 3).requires_grad_()
    y = hash_grid(x, table, geometry, max_level=2)
    y.sum().backward()
    assert y[:, 4:].eq(0).all()
    assert y[:, :4].ne(0).any()
    assert table.grad[geometry.offsets[2] :].eq(0).all()  # type: ignore[index]
    assert table.grad.ne(0).any()  # type: ignore[union-attr]
    assert hash_grid(x, table, geometry, max_level=0).eq(0).all()


@pytest.mark.parametrize("layout", ["tcnn", "torch-ngp", "torch-ngp-aligned"])
def test_points_outside_are_clamped(layout: str) -> None:
    geometry = small(layout=layout)
    table = table_of(geometry)
    far = torch.tensor(
        [[-1.0, 0.5, 2.0], [1e30, -1e30, 0.3], [torch.inf, -torch.inf, 0.5]], requires_grad=True
    )
    y = hash_grid(far, table, geometry)
    assert torch.equal(y, hash_grid(far.detach().clamp(0, 1), table, geometry))
    (slope,) = torch.autograd.grad(y.sum(), far)
    assert slope[far.detach().clamp(0, 1) != far].eq(0).all()
    assert slope[far.detach().clamp(0, 1) == far].ne(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nan_points_give_nan_and_touch_nothing(dtype: torch.dtype) -> None:
    geometry = small()
    table = table_of(geometry).to(dtype).requires_grad_()
    x = points(20, 3).to(dtype)
    good = x.clone()
    x[3, 1] = x[17, 0] = torch.nan
    x.requires_grad_()
    y = hash_grid(x, table, geometry)
    bad = torch.zeros(20, dtype=torch.bool)
    bad[[3, 17]] = True
    assert y[bad].isnan().all()
    assert torch.equal(y[~bad], hash_grid(good, table, geometry)[~bad])
    slope, table_slope = torch.autograd.grad(y.sum(), (x, table))
    assert slope[bad].eq(0).all()
    (wanted,) = torch.autograd.grad(hash_grid(good[~bad], table, geometry).sum(), table)
    torch.testing.assert_close(table_slope, wanted)


# --- the sparse gradient ---


@pytest.mark.parametrize("features", [1, 4])  # with one, levels begin inside lines
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sparse_gradient_equals_the_dense_one(dtype: torch.dtype, features: int) -> None:
    geometry = small(features=features, log2_table=14)
    assert features > 1 or any(offset % 16 for offset in geometry.offsets[:-1])
    table = table_of(geometry).to(dtype).requires_grad_()
    gradient = SparseGradient(table)
    x = points(50, 3).to(dtype)
    for _ in range(2):  # it adds up
        hash_grid(x, table, geometry, gradient=gradient).pow(2).sum().backward()
    assert table.grad is None
    twin = table.detach().clone().requires_grad_()
    hash_grid(x, twin, geometry).pow(2).sum().backward()
    torch.testing.assert_close(gradient.values, 2 * twin.grad.float())  # type: ignore[union-attr]
    lines = torch.nn.functional.pad(gradient.values.reshape(-1), (0, -gradient.values.numel() % 16))
    assert gradient.touched[lines.reshape(-1, 16).ne(0).any(1)].eq(1).all()
    assert 0 < gradient.touched.float().mean() < 0.5
    gradient.clear()
    assert gradient.values.eq(0).all()
    assert gradient.touched.eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_asking_for_the_points_gradient_alone_adds_nothing(dtype: torch.dtype) -> None:
    geometry = small()
    table = table_of(geometry).to(dtype).requires_grad_()
    gradient = SparseGradient(table)
    x = points(30, 3).to(dtype).requires_grad_()
    y = hash_grid(x, table, geometry, gradient=gradient)
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert gradient.values.eq(0).all()
    slope.pow(2).sum().backward()  # eikonal: the second derivative arrives there
    twin = table.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(hash_grid(x, twin, geometry).sum(), x, create_graph=True)
    slope.pow(2).sum().backward()
    wanted = twin.grad.float()  # type: ignore[union-attr]
    assert relative(gradient.values, wanted) < TOLERANCE


def test_adding_a_gradient_of_another_shape_is_an_error() -> None:
    with pytest.raises(ShapeError, match=r"must have the table's shape, \(4, 2\), but is \(4, 1\)"):
        SparseGradient(torch.zeros(4, 2)).add(torch.zeros(4, 1))


def test_the_same_bits_every_time_and_with_any_number_of_threads() -> None:
    geometry = small(levels=5, log2_table=12)
    x, upstream = points(20_001, 3), torch.randn(20_001, geometry.out_dim)
    table, before = table_of(geometry).requires_grad_(), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 2, 3):
            torch.set_num_threads(threads)
            (slope,) = torch.autograd.grad(hash_grid(x, table, geometry), table, upstream)
            results.append(slope)
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert torch.equal(results[0], other)


# --- torch's own checks of the operations ---


def test_operations_are_registered_as_torch_demands() -> None:
    if not native.available():
        pytest.skip("the native module is not there")
    geometry = small()
    x, table = points(9, 3).requires_grad_(), table_of(geometry).requires_grad_()
    upstream = torch.randn(geometry.out_dim, 9, requires_grad=True)
    settings = (geometry.key, geometry.levels)
    ops = torch.ops.polyfield
    values, touched = torch.zeros(geometry.entries, 2), torch.zeros(9999, dtype=torch.uint8)
    checked = {}
    for op, arguments in (
        (ops.hash_grid, (x, table, None, None, None)),
        (ops.hash_grid_points_gradient, (x, table, upstream, None, None, None)),
        (ops.hash_grid_table_gradient, (x, upstream, None)),
        (ops.hash_grid_scatter_, (x.detach(), upstream.detach(), None, values, touched)),
    ):
        checked |= torch.library.opcheck(op, (*arguments, *settings))
    assert set(checked.values()) == {"SUCCESS"}


def test_a_third_derivative_is_refused() -> None:
    geometry = small(interpolation="smoothstep")
    x, table = points(4, 3).requires_grad_(), table_of(geometry)
    (slope,) = torch.autograd.grad(hash_grid(x, table, geometry).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
    if native.available():
        with pytest.raises(RuntimeError, match="a third derivative was asked for"):
            torch.autograd.grad(second.sum(), x)


# --- the encoder and its errors ---


def test_the_encoder() -> None:
    data = {"kind": "hash_grid", "levels": 4, "log2_table": 12, "features": 4}
    grid = build_encoder(data, 3, torch.Generator().manual_seed(3))
    assert isinstance(grid, HashGrid)
    assert grid.out_dim == 16
    assert grid.table.abs().max() <= 1e-4
    # the mean of |U(-1e-4, 1e-4)| is half of that; 60,000 draws keep to it within a per cent
    assert grid.table.abs().mean().item() == pytest.approx(5e-5, rel=1e-2)
    again = build_encoder(data, 3, torch.Generator().manual_seed(3))
    assert torch.equal(grid.table, again.table)
    grid(points(10, 3)).sum().backward()
    assert grid.table.grad is None
    (group,) = grid.groups()
    assert group.parameters[0] is grid.table
    assert group.gradient is grid.gradient
    assert group.gradient.touched.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": 3}, r"features must be one of \(1, 2, 4, 8\), but is 3"),
        ({"levels": 0}, "levels must be from 1 to 64, but is 0"),
        ({"grid": "hsah"}, "no kind 'hsah'. Did you mean 'hash'"),
        ({"layout": "ngp"}, "no layout 'ngp'"),
        ({"interpolation": "cubic"}, "no interpolation 'cubic'"),
        ({"finest": 4}, "finest resolution must be at least its base, 16, but is 4"),
        ({"growth": 0.5}, "growth must be from 1 to 16, but is 0.5"),
        ({"growth": 8.0}, "float32 coordinates resolve at most"),
        ({"growth": 16.0, "levels": 64}, r"has about 2\^256 vertices along an axis"),
        ({"finest": 1e300}, r"has about 2\^996.58 vertices .* lower 'finest'"),
        ({"finest": 1.79e308, "base": 1}, "float32 coordinates resolve at most"),
        ({"finest": float("nan")}, "float32 coordinates resolve at most"),
        ({"finest": 1.01 * 2.0**24}, "float32 coordinates resolve at most"),
        ({"grid": "tiled", "layout": "torch-ngp"}, "knows the kind 'hash' only"),
    ],
)
def test_config_errors(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HashGridConfig(**changes)  # type: ignore[arg-type]


def test_a_dense_grid_that_would_not_fit_is_refused_when_built() -> None:
    with pytest.raises(ConfigError, match=r"would have 2048\^3 entries"):
        HashGridConfig(grid="dense", levels=1, base=2048).geometry(3)
    with pytest.raises(ConfigError, match=f"tiled grid would have {2048**3} entries; lower 'base'"):
        HashGridConfig(grid="tiled", levels=1, base=2048).geometry(3)


def test_shape_errors() -> None:
    geometry = small()
    x, table = points(5, 3), table_of(geometry)
    with pytest.raises(ShapeError, match=r"x must be \[N, 3\], but is \[5, 2\]"):
        hash_grid(x[:, :2], table, geometry)
    with pytest.raises(ShapeError, match="the table of this grid must be"):
        hash_grid(x, table[1:], geometry)
    with pytest.raises(ShapeError, match="floats of one kind on one device"):
        hash_grid(x.double(), table, geometry)
    with pytest.raises(ShapeError, match="max_level must be from 0 to 4, but is 5"):
        hash_grid(x, table, geometry, max_level=5)
    with pytest.raises(ShapeError, match="the sparse gradient must be"):
        hash_grid(x, table, geometry, gradient=SparseGradient(table[1:]))
