"""Products of small grids: closed forms, torch's grid_sample, and kernels against the reference."""

import itertools

import pytest
import torch
from torch import Tensor

from polyfield import native
from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.ops.factor_grid import (
    Factor,
    FactorLayout,
    factor_grid,
    factor_grid_reference,
)
from polyfield.fields.ops.sparse_gradient import SparseGradient

LAYOUTS = {
    "line": FactorLayout(1, 3, ((Factor((0,), (7,)),),)),
    "cp": FactorLayout(3, 20, (tuple(Factor((axis,), (9,)) for axis in range(3)),)),
    "vm": FactorLayout(
        3,
        16,
        (
            (Factor((0, 1), (6, 9)), Factor((2,), (5,))),
            (Factor((2, 0), (3, 4)), Factor((1,), (2,))),
        ),
    ),
    "kplanes": FactorLayout(
        4,
        5,
        tuple(
            tuple(Factor(axes, (4 * s, 5 * s)) for axes in itertools.combinations(range(4), 2))
            for s in (1, 2)
        ),
    ),
    "boxes": FactorLayout(
        3, 33, ((Factor((0, 1, 2), (4, 5, 6)),), (Factor((2, 1, 0), (3, 2, 4)),))
    ),
}
SIZES = [0, 1, 7, 16, 17, 1003]

every_layout = pytest.mark.parametrize("name", LAYOUTS)


def case(
    name: str, count: int, dtype: torch.dtype = torch.float32
) -> tuple[FactorLayout, Tensor, Tensor]:
    layout, generator = LAYOUTS[name], torch.Generator().manual_seed(count)
    x = torch.rand(count, layout.dim, generator=generator, dtype=dtype)
    table = torch.randn(layout.rows, layout.channels, generator=generator, dtype=dtype)
    return layout, x, table


@every_layout
def test_equal_vertices_give_their_power_everywhere(name):
    layout, x, table = case(name, 50)
    features = factor_grid(x, torch.full_like(table, 1.5), layout)
    powers = [1.5 ** len(group) for group in layout.groups for _ in range(layout.channels)]
    # Weights sum to 1 but for the rounding of each of up to six interpolations.
    assert torch.allclose(features, torch.tensor(powers).expand_as(features), rtol=2e-6)


def test_at_a_vertex_of_all_factors_it_is_the_product_of_their_entries():
    layout = FactorLayout(2, 2, ((Factor((0,), (5,)), Factor((1,), (3,)), Factor((0, 1), (5, 3))),))
    table = torch.arange(layout.rows * 2, dtype=torch.float32).view(-1, 2)
    x = torch.tensor([[0.75, 0.5]])  # vertex 3 along the first axis, 1 along the second
    rows = [3, 5 + 1, 5 + 3 + 1 * 5 + 3]
    assert torch.equal(factor_grid(x, table, layout)[0], table[rows].prod(0))


@pytest.mark.parametrize("axes", [(0, 1), (2, 0), (0, 1, 2), (1, 2, 0)])
def test_planes_and_boxes_are_those_of_grid_sample(axes):
    sides = (5, 8, 6)[: len(axes)]
    layout = FactorLayout(3, 4, ((Factor(axes, sides),),))
    generator = torch.Generator().manual_seed(0)
    x, table = (
        torch.rand(200, 3, generator=generator),
        torch.randn(layout.rows, 4, generator=generator),
    )
    grid = (2 * x[:, list(axes)] - 1).view(1, *(1,) * (len(axes) - 1), -1, len(axes))
    image = table.t().reshape(1, 4, *reversed(sides))  # the first axis runs fastest, as there
    expected = torch.nn.functional.grid_sample(image, grid, align_corners=True)
    # Both round the place in the grid, a few units of 2^-24, times a slope of a few.
    assert torch.allclose(factor_grid(x, table, layout), expected.view(4, -1).t(), atol=1e-5)


@every_layout
@pytest.mark.parametrize("count", SIZES)
def test_kernel_and_reference_agree(name, count):
    layout, x, table = case(name, count)
    x, table = x.requires_grad_(), table.requires_grad_()
    exact_x, exact_table = (t.detach().double().requires_grad_() for t in (x, table))
    features, exact = (
        factor_grid(x, table, layout),
        factor_grid_reference(exact_x, exact_table, layout),
    )
    upstream = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad(features, (x, table), upstream)
    theirs = torch.autograd.grad(exact, (exact_x, exact_table), upstream.double())
    for value, wanted in zip((features, *ours), (exact, *theirs), strict=True):
        # Products of up to six sums of a few numbers around 1, then sums of up to a thousand of them: some hundred
        # roundings of 6e-8, relative to the largest.
        scale = wanted.detach().abs().max() if wanted.numel() else 1.0
        assert torch.allclose(value.double(), wanted, rtol=1e-5, atol=1e-5 * float(scale))


@every_layout
def test_derivatives_of_the_reference(name):
    layout, x, table = case(name, 3, torch.float64)
    # Few vertices: differences are taken by each, twice.
    groups = tuple(
        tuple(Factor(f.axes, tuple(min(side, 3) for side in f.sides)) for f in group)
        for group in layout.groups
    )
    small = FactorLayout(layout.dim, 2, groups)
    x = 0.05 + 0.9 * x
    table = table[: small.rows, :2].contiguous()

    def of(x: Tensor, table: Tensor) -> Tensor:
        return factor_grid_reference(x, table, small)

    assert torch.autograd.gradcheck(of, (x.requires_grad_(), table.requires_grad_()))
    assert torch.autograd.gradgradcheck(of, (x, table))


@every_layout
def test_second_derivatives_of_the_kernel_are_those_of_the_reference(name):
    layout, x, table = case(name, 40)
    results = []
    for function, dtype in ((factor_grid, torch.float32), (factor_grid_reference, torch.float64)):
        x_, table_ = (t.detach().to(dtype).requires_grad_() for t in (x, table))
        features = function(x_, table_, layout)
        (slope,) = torch.autograd.grad((features**2).sum(), x_, create_graph=True)
        results.append(torch.autograd.grad(slope.square().sum(), (x_, table_)))
    for value, wanted in zip(*results, strict=True):
        assert torch.allclose(
            value.double(), wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max())
        )


@every_layout
@pytest.mark.parametrize("second", [False, True])
def test_a_sparse_gradient_takes_what_the_table_would_get(name, second):
    layout, x, table = case(name, 30)
    x, table = x.requires_grad_(), table.requires_grad_()

    def loss(gradient: SparseGradient | None) -> Tensor:
        features = factor_grid(x, table, layout, gradient=gradient)
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


def test_the_gradient_to_points_alone_leaves_the_sparse_gradient_alone():
    layout, x, table = case("vm", 30)
    sparse = SparseGradient(table)
    features = factor_grid(x.requires_grad_(), table.requires_grad_(), layout, gradient=sparse)
    torch.autograd.grad(features.sum(), x)
    assert not sparse.touched.any()


@every_layout
@pytest.mark.parametrize("function", [factor_grid, factor_grid_reference])
def test_beyond_the_borders_features_go_on_constant(name, function):
    layout, x, table = case(name, 60)
    x = (3 * x - 1).requires_grad_()
    features = function(x, table, layout)
    assert torch.equal(features, function(x.detach().clamp(0, 1), table, layout))
    (slope,) = torch.autograd.grad(features.sum(), x)
    assert not slope[(x < 0) | (x > 1)].any()


@every_layout
def test_a_nan_gives_nan_and_no_gradient(name):
    layout, x, table = case(name, 5)
    x[2] = torch.nan
    x, table = x.requires_grad_(), table.requires_grad_()
    features = factor_grid(x, table, layout)
    assert features[2].isnan().all()
    assert features[[0, 1, 3, 4]].isfinite().all()
    slope, gradient = torch.autograd.grad(features.sum(), (x, table))
    if native.available():
        assert not slope[2].any()
        assert gradient.isfinite().all()


@every_layout
def test_threads_do_not_change_a_bit(name):
    layout, x, table = case(name, 5000)
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            x_, table_ = x.clone().requires_grad_(), table.clone().requires_grad_()
            features = factor_grid(x_, table_, layout)
            results.append((features, *torch.autograd.grad(features.square().sum(), (x_, table_))))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((5, 4, ((Factor((0,), (4,)),),)), "takes 1 to 4 coordinates, not 5"),
        ((3, 0, ((Factor((0,), (4,)),),)), "has 1 to 1024 channels, not 0"),
        ((3, 4, ()), "has 1 to 64 groups"),
        ((3, 4, ((),)), "of 1 to 6 factors"),
        ((3, 4, ((Factor((0, 0), (4, 4)),),)), "different axes"),
        ((3, 4, ((Factor((3,), (4,)),),)), "axes 0 to 2"),
        ((3, 4, ((Factor((0,), (1,)),),)), "needs 2 to 2"),
        ((3, 4, ((Factor((0, 1), (4,)),),)), "each of its 2 axes"),
        ((3, 4, ((Factor((0, 1), (2**20, 2**20)),),)), "too large"),
    ],
)
def test_layouts_that_cannot_be_are_refused(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        FactorLayout(*arguments)


@pytest.mark.parametrize(
    ("x", "table", "sentence"),
    [
        (torch.zeros(3, 2), torch.zeros(27, 20), r"x must be \[N, 3\]"),
        (torch.zeros(3, 3), torch.zeros(26, 20), r"must be \[27, 20\]"),
        (torch.zeros(3, 3, dtype=torch.int64), torch.zeros(27, 20), "floats of one kind"),
        (torch.zeros(3, 3, dtype=torch.float64), torch.zeros(27, 20), "floats of one kind"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(x, table, sentence):
    with pytest.raises(ShapeError, match=sentence):
        factor_grid(x, table, LAYOUTS["cp"])
