"""Lattices of kept vertices: closed forms, the dense grid, and kernels against the reference; their total variation."""

import pytest
import torch
from torch import Generator, Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.ops.factor_grid import Factor, FactorLayout, factor_grid
from polyfield.fields.ops.sparse_gradient import SparseGradient
from polyfield.fields.ops.sparse_grid import lattice_points, sparse_grid, sparse_grid_reference
from polyfield.fields.ops.total_variation import add_total_variation, total_variation

SIDES = [2, 3, 9]
CHANNELS = [1, 5, 16, 28, 37]
SIZES = [0, 1, 7, 16, 17, 1003]

every_channels = pytest.mark.parametrize("channels", CHANNELS)


def places_of(side: int, share: float, seed: int = 0) -> Tensor:
    """Some vertices of a lattice, rising."""
    drawn = torch.rand(side**3, generator=Generator().manual_seed(seed))
    return (drawn < share).nonzero()[:, 0]


def index_of(side: int, places: Tensor) -> Tensor:
    index = torch.full((side**3,), -1, dtype=torch.int32)
    index[places] = torch.arange(len(places), dtype=torch.int32)
    return index.view(side, side, side)


def case(
    side: int, channels: int, count: int, share: float = 0.6, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    generator, places = Generator().manual_seed(count), places_of(side, share)
    x = torch.rand(count, 3, generator=generator, dtype=dtype)
    table = torch.randn(len(places), channels, generator=generator, dtype=dtype)
    return x, table, index_of(side, places)


@pytest.mark.parametrize("side", SIDES)
@every_channels
def test_with_all_vertices_it_is_the_dense_grid(side, channels):
    x, table, index = case(side, channels, 400, share=1.1)
    x = 1.2 * x - 0.1
    layout = FactorLayout(3, channels, ((Factor((0, 1, 2), (side,) * 3),),))
    if native.available():  # the same products, summed in the same order
        assert torch.equal(sparse_grid(x, table, index), factor_grid(x, table, layout))
    # Eight products of numbers around 1 and their sum: ten roundings of 6e-8 of at most some 4.
    expected = sparse_grid_reference(x.double(), table.double(), index)
    assert torch.allclose(sparse_grid(x, table, index).double(), expected, atol=3e-6)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("function", [sparse_grid, sparse_grid_reference])
def test_a_linear_function_is_interpolated_exactly(side, function):
    index = index_of(side, torch.arange(side**3))
    slopes = torch.tensor([[1.0, -2.0], [3.0, 0.5], [-1.0, 2.0]])
    table = lattice_points(torch.arange(side**3), side) @ slopes + 0.25
    x = torch.rand(300, 3, generator=Generator().manual_seed(0))
    # Values up to 4, of which a place in the lattice is off by 2^-24 and each of ten roundings by as much.
    assert torch.allclose(function(x, table, index), x @ slopes + 0.25, atol=5e-6)


@pytest.mark.parametrize("function", [sparse_grid, sparse_grid_reference])
def test_empty_cells_are_exactly_zero(function):
    x, table, index = case(9, 28, 4000, share=0.08)
    kept = index >= 0
    cell = (x * 8).long().clamp(max=7)
    corners = torch.stack(
        [
            kept[cell[:, 2] + k, cell[:, 1] + j, cell[:, 0] + i]
            for i in (0, 1)
            for j in (0, 1)
            for k in (0, 1)
        ]
    )
    empty = ~corners.any(0)
    assert 0.2 < empty.float().mean() < 0.8
    x.requires_grad_()
    features = function(x, table, index)
    assert not features[empty].any()
    assert features[~empty].any(1).all()
    (slope,) = torch.autograd.grad(features.sum(), x)
    assert not slope[empty].any()


def test_numbers_that_are_no_rows_mean_none():
    x, table, index = case(5, 28, 500)
    strange = torch.where(
        index < 0, torch.tensor(len(table) + 10_000_000, dtype=torch.int32), index
    )
    strange.view(-1)[(index.view(-1) < 0).nonzero()[0]] = -(2**31)
    assert torch.equal(sparse_grid(x, table, strange), sparse_grid(x, table, index))
    expected = sparse_grid_reference(x, table, index)
    assert torch.equal(sparse_grid_reference(x, table, strange), expected)


@every_channels
@pytest.mark.parametrize("count", SIZES)
def test_kernel_and_reference_agree(channels, count):
    x, table, index = case(9, channels, count)
    exact_x, exact_table = (t.double().requires_grad_() for t in (x, table))
    x, table = x.requires_grad_(), table.requires_grad_()
    features = sparse_grid(x, table, index)
    exact = sparse_grid_reference(exact_x, exact_table, index)
    upstream = torch.randn(features.shape, generator=Generator().manual_seed(1))
    ours = torch.autograd.grad(features, (x, table), upstream)
    theirs = torch.autograd.grad(exact, (exact_x, exact_table), upstream.double())
    for value, wanted in zip((features, *ours), (exact, *theirs), strict=True):
        # Sums of up to some hundred numbers around 1: so many roundings of 6e-8, relative to the largest.
        scale = wanted.detach().abs().max() if wanted.numel() else 1.0
        assert torch.allclose(value.double(), wanted, rtol=1e-5, atol=1e-5 * float(scale))


def test_derivatives_of_the_reference():
    x, table, index = case(4, 2, 3, dtype=torch.float64)
    x = 0.05 + 0.9 * x

    def of(x: Tensor, table: Tensor) -> Tensor:
        return sparse_grid_reference(x, table, index)

    assert torch.autograd.gradcheck(of, (x.requires_grad_(), table.requires_grad_()))
    assert torch.autograd.gradgradcheck(of, (x, table))


def test_second_derivatives_of_the_kernel_are_those_of_the_reference():
    x, table, index = case(6, 28, 40)
    results = []
    for function, dtype in ((sparse_grid, torch.float32), (sparse_grid_reference, torch.float64)):
        x_, table_ = (t.detach().to(dtype).requires_grad_() for t in (x, table))
        features = function(x_, table_, index)
        (slope,) = torch.autograd.grad((features**2).sum(), x_, create_graph=True)
        results.append(torch.autograd.grad(slope.square().sum(), (x_, table_)))
    for value, wanted in zip(*results, strict=True):
        scale = float(wanted.abs().max())
        assert torch.allclose(value.double(), wanted, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("second", [False, True])
def test_a_sparse_gradient_takes_what_the_table_would_get(second):
    x, table, index = case(9, 28, 30)
    x, table = x.requires_grad_(), table.requires_grad_()

    def loss(gradient: SparseGradient | None) -> Tensor:
        features = sparse_grid(x, table, index, gradient=gradient)
        if not second:
            return features.square().sum()
        return torch.autograd.grad(features.sum(), x, create_graph=True)[0].square().sum()

    loss(None).backward()
    assert table.grad is not None
    dense, table.grad = table.grad, None
    sparse = SparseGradient(table.detach())
    loss(sparse).backward()
    assert table.grad is None
    assert torch.allclose(sparse.values, dense, rtol=1e-5, atol=1e-5 * float(dense.abs().max()))
    marked = sparse.touched.repeat_interleave(16)[: dense.numel()].bool()
    assert not dense.view(-1)[~marked].any()
    assert not marked.all()


def test_the_gradient_to_points_alone_leaves_the_sparse_gradient_alone():
    x, table, index = case(5, 28, 30)
    sparse = SparseGradient(table)
    features = sparse_grid(x.requires_grad_(), table.requires_grad_(), index, gradient=sparse)
    torch.autograd.grad(features.sum(), x)
    assert not sparse.touched.any()


@pytest.mark.parametrize("function", [sparse_grid, sparse_grid_reference])
def test_beyond_the_borders_features_go_on_constant(function):
    x, table, index = case(5, 28, 60)
    x = (3 * x - 1).requires_grad_()
    features = function(x, table, index)
    assert torch.equal(features, function(x.detach().clamp(0, 1), table, index))
    (slope,) = torch.autograd.grad(features.sum(), x)
    assert not slope[(x < 0) | (x > 1)].any()


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_nan_gives_nan_and_no_gradient(share):
    x, table, index = case(4, 28, 5, share=share)
    x[2, 1] = torch.nan
    x, table = x.requires_grad_(), table.requires_grad_()
    for function in (sparse_grid, sparse_grid_reference):
        features = function(x, table, index)
        assert share == 0.0 or features[2].isnan().all()
        assert features[[0, 1, 3, 4]].isfinite().all()
    slope, gradient = torch.autograd.grad(sparse_grid(x, table, index).sum(), (x, table))
    if native.available():
        assert not slope[2].any()
        assert gradient.isfinite().all()


def with_threads(count: int, results_of):  # type: ignore[no-untyped-def]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        return results_of()
    finally:
        torch.set_num_threads(before)


@every_channels
def test_threads_do_not_change_a_bit(channels):
    x, table, index = case(9, channels, 5000)
    vertices, weights = places_of(9, 0.6).int(), torch.rand(channels)

    def results() -> list[Tensor]:
        x_, table_ = x.clone().requires_grad_(), table.clone().requires_grad_()
        features = sparse_grid(x_, table_, index)
        sparse = SparseGradient(table)
        add_total_variation(sparse, table, index, vertices, weights)
        slopes = torch.autograd.grad(features.square().sum(), (x_, table_))
        return [features, *slopes, sparse.values, sparse.touched]

    alone = with_threads(1, results)
    for count in (2, 3, 5):
        assert all(map(torch.equal, alone, with_threads(count, results)))


@pytest.mark.parametrize(
    ("x", "table", "index", "sentence"),
    [
        (torch.zeros(3, 2), torch.zeros(8, 4), (2, 2, 2), r"x must be \[N, 3\]"),
        (torch.zeros(3, 3), torch.zeros(8, 4), (2, 2, 3), r"index must be int32 \[S, S, S\]"),
        (torch.zeros(3, 3), torch.zeros(8, 4), (1, 1, 1), "S from 2 to 1024"),
        (torch.zeros(3, 3), torch.zeros(8, 0), (2, 2, 2), "C from 1 to 1024"),
        (torch.zeros(3, 3), torch.zeros(8), (2, 2, 2), r"table must be \[V, C\]"),
        (torch.zeros(3, 3).double(), torch.zeros(8, 4), (2, 2, 2), "floats of one kind"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(x, table, index, sentence):
    with pytest.raises(ShapeError, match=sentence):
        sparse_grid(x, table, torch.zeros(index, dtype=torch.int32))


def test_an_index_of_long_integers_is_refused():
    with pytest.raises(ShapeError, match="index must be int32"):
        sparse_grid(torch.zeros(1, 3), torch.zeros(8, 4), torch.zeros(2, 2, 2, dtype=torch.int64))


def test_the_total_variation_of_a_linear_function():
    """Its differences are the slopes over 255, and 0 beyond the last vertices."""
    side = 5
    index, slope = index_of(side, torch.arange(side**3)), torch.tensor([3.0, 4.0, 12.0])
    table = (lattice_points(torch.arange(side**3), side) @ slope)[:, None]
    inner = torch.arange(side**3).view(side, side, side)[:-1, :-1, :-1].flatten().int()
    variation = total_variation(table, index, inner, torch.tensor([2.0]))
    expected = 2 * 13 / (side - 1) * side / 256
    assert float(variation) == pytest.approx(expected, rel=1e-5)
    corner = torch.tensor([side**3 - 1], dtype=torch.int32)
    assert float(total_variation(table, index, corner, torch.tensor([1.0]))) < 1e-4


@every_channels
@pytest.mark.parametrize("share", [0.3, 1.1])
@pytest.mark.parametrize("part", [slice(0, 0), slice(0, 1), slice(20, 90), slice(None)])
def test_the_gradient_of_the_total_variation(channels, share, part):
    _, table, index = case(7, channels, 0, share=share)
    vertices = places_of(7, share)[part].int()
    weights = torch.rand(channels, generator=Generator().manual_seed(2))
    sparse = SparseGradient(table)
    add_total_variation(sparse, table, index, vertices, weights)
    exact = table.double().requires_grad_()
    total_variation(exact, index, vertices, weights.double()).backward()
    assert exact.grad is not None
    scale = float(exact.grad.abs().max())
    # A unit vector and three more of its entries, each to some 1e-6: differences cancel where neighbours are alike.
    assert torch.allclose(sparse.values.double(), exact.grad, rtol=1e-5, atol=1e-5 * scale)
    marked = sparse.touched.repeat_interleave(16)[: table.numel()].bool()
    assert not sparse.values.view(-1)[~marked].any()


def test_a_total_variation_that_does_not_fit_is_refused():
    _, table, index = case(4, 3, 0, share=1.1)
    sparse, weights = SparseGradient(table), torch.ones(3)
    for vertices, sentence in (
        (torch.tensor([64], dtype=torch.int32), r"must lie in 0\.\.63"),
        (torch.tensor([-1], dtype=torch.int32), r"must lie in 0\.\.63"),
        (torch.tensor([1]), r"must be int32 \[M\]"),
    ):
        with pytest.raises(ShapeError, match=sentence):
            add_total_variation(sparse, table, index, vertices, weights)
    with pytest.raises(ShapeError, match=r"weights \[3\]"):
        add_total_variation(sparse, table, index, torch.zeros(1, dtype=torch.int32), weights[:2])


@pytest.mark.parametrize("threads", [1, 3, 5])
def test_the_total_variation_of_rows_in_any_order(threads):
    """Threads share the rows, which need not rise with the vertices that they belong to."""
    table = torch.rand(27, 4, generator=Generator().manual_seed(3))
    index = torch.arange(26, -1, -1, dtype=torch.int32).view(3, 3, 3)
    vertices, weights = torch.arange(27, dtype=torch.int32), torch.ones(4)
    sparse, exact = SparseGradient(table), table.clone().requires_grad_()
    with_threads(threads, lambda: add_total_variation(sparse, table, index, vertices, weights))
    total_variation(exact, index, vertices, weights).backward()
    assert torch.allclose(sparse.values, exact.grad, rtol=1e-5, atol=1e-6)
