"""Radial bases: closed forms, kernels against the reference, gradients."""

import itertools

import pytest
import torch
from torch import Tensor

from polyfield import native
from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.ops.rbf import RadialBases, RbfShape, kernel_values, rbf, rbf_reference
from polyfield.fields.ops.rbf_neighbours import Neighbours, nearest_reference
from polyfield.fields.ops.rbf_placement import even_shapes
from polyfield.fields.ops.rbf_shape import KERNELS, shape_of
from polyfield.fields.ops.sparse_gradient import SparseGradient

every_kernel = pytest.mark.parametrize("kernel", KERNELS)
every_dim = pytest.mark.parametrize("dim", [1, 2, 3])
ROWS = 200


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bases_of(shape: RbfShape) -> RadialBases:
    """Kernels anywhere, about as wide as they are apart, each turned its own way."""
    centres = torch.rand(ROWS, shape.dim, generator=generator(1))
    extent = torch.tensor([1.0, 0.7, 1.3])[: shape.dim]
    shapes = even_shapes(ROWS, extent, shape)
    if shape.kernel == "tent":
        return RadialBases(
            centres, shapes * (0.5 + 0.5 * torch.rand(ROWS, 1, generator=generator(2))), extent
        )
    turn = torch.randn(ROWS, shape.dim, shape.dim, generator=generator(2)) / shape.dim
    full = turn @ turn.mT + 0.2 * torch.eye(shape.dim)
    upper = torch.triu_indices(shape.dim, shape.dim)
    return RadialBases(centres, (full[:, upper[0], upper[1]] * shapes.max()).contiguous(), extent)


Case = tuple[Tensor, Tensor, Tensor, RadialBases]


def case(shape: RbfShape, count: int) -> Case:
    """Points, the numbers of their neighbours, features, bases."""
    bases = bases_of(shape)
    x = torch.rand(count, shape.dim, generator=generator(count))
    ids = nearest_reference(x, bases.centres, bases.extent, shape.neighbours)
    return x, ids, torch.randn(ROWS, shape.channels, generator=generator(3)), bases


def exact(bases: RadialBases) -> RadialBases:
    return RadialBases(*(part.double() for part in bases))


@every_kernel
@every_dim
def test_a_kernel_is_one_at_its_centre_and_less_elsewhere(kernel, dim):
    shape = RbfShape(dim, 1, 3, kernel, normalise=False)
    bases = bases_of(shape)
    ids = nearest_reference(bases.centres, bases.centres, bases.extent, 3)
    values = kernel_values(bases.centres, ids, bases, shape)
    assert torch.equal(values[:, 0], torch.ones(ROWS))
    assert (values[:, 1:] < 1).all()
    only = RbfShape(dim, 1, 1, kernel, normalise=False)
    assert torch.equal(
        rbf(bases.centres, ids[:, :1].contiguous(), torch.ones(ROWS, 1), bases, only),
        torch.ones(ROWS, 1),
    )


@every_kernel
@every_dim
def test_normalised_weights_sum_to_one(kernel, dim):
    x, ids, features, bases = case(shape := RbfShape(dim, 37, 5, kernel), 500)
    values = rbf(x, ids, torch.full_like(features, 3.0), bases, shape)
    # Where kernels are nearly 0 the 1e-8 beside their sum counts; tents of the neighbours can all be 0.
    somewhere = kernel_values(x, ids, bases, shape).sum(1) > 1e-2
    assert somewhere.float().mean() > 0.5
    assert torch.allclose(values[somewhere], torch.tensor(3.0), rtol=3e-6)


@pytest.mark.parametrize(
    ("dim", "neighbours", "margin"), [(1, 2, 0), (2, 9, 0), (2, 4, 0.3), (3, 8, 0.3)]
)
def test_tents_on_a_lattice_interpolate_linearly(dim, neighbours, margin):
    # The corners of a cell are the 2^D nearest centres only of points well within it; of nine all four are among them.
    side = 5
    axes = [torch.linspace(0, 1, side)] * dim
    centres = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(-1, dim)
    shape = RbfShape(dim, 3, neighbours, "tent", normalise=False)
    bases = RadialBases(centres, torch.full((side**dim, 1), side - 1.0), torch.ones(dim))
    features = torch.randn(side**dim, 3, generator=generator())
    cells = torch.randint(side - 1, (400, dim), generator=generator(1))
    within = margin + (1 - 2 * margin) * torch.rand(400, dim, generator=generator(1))
    x = (cells + within) / (side - 1)
    ids = Neighbours(centres, bases.extent, neighbours)(x)
    low = (x * (side - 1)).floor().clamp(max=side - 2)
    t, expected = x * (side - 1) - low, torch.zeros(400, 3)
    for corner in itertools.product((0, 1), repeat=dim):
        at = torch.tensor(corner)
        row = ((low.long() + at) * side ** torch.arange(dim - 1, -1, -1)).sum(1)
        expected += torch.where(at == 1, t, 1 - t).prod(1, keepdim=True) * features[row]
    # Both round places in the lattice to 2^-24 times its four steps, and features are a few.
    assert torch.allclose(rbf(x, ids, features, bases, shape), expected, atol=1e-5)


@every_kernel
@every_dim
@pytest.mark.parametrize("channels", [1, 16, 32, 37])
@pytest.mark.parametrize(
    ("normalise", "frequencies"), [(True, (-3.0, 12.0)), (False, None), (True, None)]
)
def test_kernel_and_reference_agree(kernel, dim, channels, normalise, frequencies):
    shape = RbfShape(dim, channels, 4, kernel, normalise, frequencies)
    x, ids, features, bases = case(shape, 203)
    x, features = x.requires_grad_(), features.requires_grad_()
    exact_x, exact_features = (t.detach().double().requires_grad_() for t in (x, features))
    values = rbf(x, ids, features, bases, shape)
    wanted = rbf_reference(exact_x, ids, exact_features, exact(bases), shape)
    upstream = torch.randn(values.shape, generator=generator(1))
    ours = torch.autograd.grad(values, (x, features), upstream)
    theirs = torch.autograd.grad(wanted, (exact_x, exact_features), upstream.double())
    # A kernel value in [0, 1] is known to some 2^-21 (its form adds up to nine products that may cancel): so is a sine,
    # times the frequency below it; normalising divides both. Sums of up to 16 such follow.
    loose = 2e-6 * (1 if frequencies is None else 2.0 ** frequencies[1])
    for value, target in zip((values, *ours), (wanted, *theirs), strict=True):
        scale = float(target.detach().abs().max())
        assert torch.allclose(value.double(), target, rtol=1e-4, atol=loose * scale)


@every_kernel
@every_dim
@pytest.mark.parametrize("frequencies", [None, (-1.0, 2.0)])
def test_derivatives_of_the_reference(kernel, dim, frequencies):
    # Not normalised: the sum of kernel values counts as a constant there, and finite differences would not know.
    shape = RbfShape(dim, 2, 3, kernel, False, frequencies)
    x, ids, features, bases = case(shape, 3)
    # Differences are taken by each feature, twice: of the kernels that are read, and of one that is not.
    read, ids = ids.long().unique(return_inverse=True)
    kept = torch.cat([read, (torch.bincount(read, minlength=ROWS) == 0).nonzero()[0]])
    features, ids = features[kept], ids.int()
    bases = RadialBases(bases.centres[kept], bases.shapes[kept], bases.extent)

    def of(x: Tensor, features: Tensor) -> Tensor:
        return rbf_reference(x, ids, features, exact(bases), shape)

    leaves = (x.double().requires_grad_(), features[:, :2].double().requires_grad_())
    assert torch.autograd.gradcheck(of, leaves)
    assert torch.autograd.gradgradcheck(of, leaves)


def test_the_sum_of_kernel_values_is_a_constant_in_derivatives():
    shape = RbfShape(2, 4, 3)
    x, ids, features, bases = case(shape, 20)
    leaf = x.requires_grad_()
    values = rbf(leaf, ids, features, bases, shape)
    (slope,) = torch.autograd.grad(values.sum(), leaf)
    plain = RbfShape(2, 4, 3, normalise=False)
    (raw,) = torch.autograd.grad(rbf(leaf, ids, features, bases, plain).sum(), leaf)
    total = kernel_values(x.detach(), ids, bases, shape).sum(1, keepdim=True)
    # The same terms, divided before or after they are added.
    assert torch.allclose(slope, raw / total, rtol=1e-4, atol=1e-4 * float(slope.abs().max()))


@every_kernel
@pytest.mark.parametrize("sparse", [False, True])
def test_second_derivatives_of_the_kernel_are_those_of_the_reference(kernel, sparse):
    shape = RbfShape(3, 5, 4, kernel, True, (0.0, 2.0))
    x, ids, features, bases = case(shape, 40)
    gradient = SparseGradient(features)
    results = []
    for function, dtype in ((rbf, torch.float32), (rbf_reference, torch.float64)):
        points, table = (t.detach().to(dtype).requires_grad_() for t in (x, features))
        parts = bases if dtype == torch.float32 else exact(bases)
        more = {"gradient": gradient} if sparse and function is rbf else {}
        values = function(points, ids, table, parts, shape, **more)
        (slope,) = torch.autograd.grad((values**2).sum(), points, create_graph=True)
        slope.square().sum().backward()
        results.append((points.grad, gradient.values if more else table.grad))
    for value, wanted in zip(*results, strict=True):
        # Two derivatives of a form that is known to 1e-6: a few of its slopes more.
        scale = float(wanted.abs().max())
        assert torch.allclose(value.double(), wanted, rtol=1e-3, atol=1e-4 * scale)


def test_the_gradient_of_features_adds_up_to_weights_times_upstream():
    shape = RbfShape(2, 6, 4)
    x, ids, features, bases = case(shape, 3001)  # more than one piece of the sort
    upstream = torch.randn(3001, 6, generator=generator(5))
    (gradient,) = torch.autograd.grad(
        rbf(x, ids, features.requires_grad_(), bases, shape), features, upstream
    )
    # Normalised weights sum to 1: what comes in goes out. Sums of 3001 numbers around 1.
    assert torch.allclose(gradient.double().sum(0), upstream.double().sum(0), atol=1e-3)
    unread = torch.ones(ROWS, dtype=torch.bool).index_fill(0, ids.long().unique(), False)
    assert not gradient[unread].any()


@pytest.mark.parametrize("channels", [16, 37])
def test_a_sparse_gradient_takes_what_the_table_would_get(channels):
    shape = RbfShape(3, channels, 5, frequencies=(0.0, 3.0))
    x, ids, features, bases = case(shape, 30)
    features.requires_grad_()
    rbf(x, ids, features, bases, shape).square().sum().backward()
    dense, features.grad = features.grad, None
    sparse = SparseGradient(features.detach())
    rbf(x, ids, features, bases, shape, gradient=sparse).square().sum().backward()
    assert features.grad is None
    assert torch.allclose(sparse.values, dense, rtol=1e-5, atol=1e-5 * float(dense.abs().max()))
    marked = sparse.touched.repeat_interleave(16)[: dense.numel()].bool()
    assert not dense.view(-1)[~marked].any()


def test_the_gradient_to_points_alone_leaves_the_sparse_gradient_alone():
    shape = RbfShape(2, 8, 4)
    x, ids, features, bases = case(shape, 30)
    sparse = SparseGradient(features)
    values = rbf(x.requires_grad_(), ids, features.requires_grad_(), bases, shape, gradient=sparse)
    torch.autograd.grad(values.sum(), x)
    assert not sparse.touched.any()


@every_kernel
@pytest.mark.parametrize("frequencies", [None, (0.0, 4.0)])
def test_a_nan_gives_nan_and_no_gradient(kernel, frequencies):
    shape = RbfShape(2, 20, 3, kernel, True, frequencies)
    x, _, features, bases = case(shape, 5)
    x[2, 1] = torch.nan
    ids = Neighbours(bases.centres, bases.extent, 3)(x)
    x, features = x.requires_grad_(), features.requires_grad_()
    values = rbf(x, ids, features, bases, shape)
    assert values[2].isnan().all()
    assert values[[0, 1, 3, 4]].isfinite().all()
    slope, gradient = torch.autograd.grad(values.sum(), (x, features))
    if native.available():
        assert not slope[2].any()
        assert gradient.isfinite().all()


@pytest.mark.skipif(not native.available(), reason="torch's own sums depend on the threads")
@pytest.mark.parametrize("count", [0, 1, 7, 1000, 40_000])
def test_threads_do_not_change_a_bit(count):
    shape = RbfShape(3, 16, 8, "tent", True, (0.0, 3.0))
    bases, threads = bases_of(shape), torch.get_num_threads()
    x = torch.rand(count, 3, generator=generator())
    features = torch.randn(ROWS, 16, generator=generator(3))
    results = []
    try:
        for some in (1, 2):
            torch.set_num_threads(some)
            points, table = x.clone().requires_grad_(), features.clone().requires_grad_()
            ids = Neighbours(bases.centres, bases.extent, 8)(x)
            values = rbf(points, ids, table, bases, shape)
            results.append((values, *torch.autograd.grad(values.square().sum(), (points, table))))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_permuting_points_permutes_features():
    shape = RbfShape(2, 32, 4, frequencies=(-3.0, 12.0))
    x, ids, features, bases = case(shape, 333)
    order = torch.randperm(333, generator=generator())
    permuted = rbf(x[order], ids[order], features, bases, shape)
    assert torch.equal(permuted, rbf(x, ids, features, bases, shape)[order])


def test_a_shape_is_found_again_by_its_key():
    shape = RbfShape(2, 5, 4, "gaussian", False, (0.0, 3.5))
    assert shape_of(shape.key) == shape


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((4, 1, 1), "1 to 3 coordinates, not 4"),
        ((3, 0, 1), "1 to 1024 features, not 0"),
        ((3, 1, 17), "1 to 16 neighbours, not 17"),
        ((3, 1, 1, "gausian"), "Did you mean 'gaussian'"),
        ((3, 1, 1, "tent", True, (3.0, 2.0)), "from a = 3.0 to b = 2.0"),
        ((3, 1, 1, "tent", True, (0.0, 17.0)), "b <= 16"),
    ],
)
def test_shapes_that_cannot_be_are_refused(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        RbfShape(*arguments)


def test_tensors_that_do_not_fit_are_refused():
    shape = RbfShape(2, 8, 4)
    x, ids, features, bases = case(shape, 5)
    short = bases._replace(shapes=bases.shapes[:, :1])
    for arguments, sentence in (
        ((x[:, :1], ids, features, bases), r"x must be \[N, 2\]"),
        ((x, ids[:, :3], features, bases), r"ids must be \[5, 4\] of int32"),
        ((x, ids.long(), features, bases), "of torch.int64"),
        ((x, ids, features[:, :7], bases), r"must be \[200, 8\]"),
        ((x, ids, features, short), r"shapes must be \[200, 3\]"),
        ((x, ids, features, bases._replace(extent=torch.ones(2).int())), "must be of floats"),
    ):
        with pytest.raises(ShapeError, match=sentence):
            rbf(*arguments, shape)


@pytest.mark.parametrize("channels", [8, 5])
def test_kernels_that_are_not_there_are_refused(channels):
    """The kernel would read, and add to, what lies behind its tables."""
    shape = RbfShape(2, channels, 4)
    x, ids, features, bases = case(shape, 5)
    for wrong in (200, 2**31 - 1):
        some = ids.clone()
        some[3, 1] = wrong
        with pytest.raises(IndexError):
            rbf(x, some, features, bases, shape)
