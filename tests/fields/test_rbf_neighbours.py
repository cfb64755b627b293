"""Nearest centres: the lists and the tree against comparing everything with everything."""

import pytest
import torch
from torch import Tensor

from polyfield import native
from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.ops.rbf_neighbours import Neighbours, nearest_reference

pytestmark = pytest.mark.skipif(
    not native.available(), reason="compares the kernels with the reference"
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(count: int, dim: int) -> Tensor:
    return torch.rand(count, dim, generator=generator(count))


def clustered(count: int, dim: int) -> Tensor:
    """On a thin shell: crowded there, and far from everywhere else."""
    around = torch.randn(count, dim, generator=generator(count))
    return 0.5 + 0.3 * torch.nn.functional.normalize(around) + 1e-4 * around


def doubled(count: int, dim: int) -> Tensor:
    """Some places hold many centres, in mixed order."""
    places = uniform(max(1, count // 20), dim)
    return places[torch.randint(len(places), (count,), generator=generator())]


def lattice(count: int, dim: int) -> Tensor:
    """Everywhere several centres are equally far."""
    side = max(2, round(count ** (1 / dim)))
    axes = torch.meshgrid(*[torch.linspace(0, 1, side)] * dim, indexing="ij")
    return torch.stack(axes, -1).view(-1, dim)


def far_off(count: int, dim: int) -> Tensor:
    return uniform(count, dim) + 2.0


def points(centres: Tensor) -> Tensor:
    """Everywhere, near centres, on centres, on the borders of cells, and outside."""
    dim = centres.shape[1]
    anywhere = uniform(150, dim)
    near = centres[torch.randint(len(centres), (150,), generator=generator())]
    corners = torch.randint(0, 17, (100, dim), generator=generator()) / 16
    return torch.cat(
        [anywhere, near, near + 1e-3 * anywhere, corners, 5 * anywhere - 2, 100 * anywhere]
    )


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("make", [uniform, clustered, doubled, lattice, far_off])
@pytest.mark.parametrize(("count", "wanted"), [(17, 16), (300, 1), (1500, 4), (2500, 8)])
def test_it_finds_what_comparing_all_finds(make, dim, count, wanted):
    centres = make(count, dim)
    extent = torch.tensor([1.0, 0.25, 3.0])[:dim]
    x = points(centres)
    ours = Neighbours(centres, extent, wanted)(x).long()
    exact = nearest_reference(x, centres, extent, wanted).long()

    def far(ids: Tensor) -> Tensor:
        return ((x[:, None] - centres[ids]) * extent).double().square().sum(2)

    # Two centres may change places where their distances differ by the rounding of the last bits (of three squares), as
    # those on the far side of a thin shell do, seen from afar.
    assert torch.allclose(far(ours), far(exact), rtol=1e-6, atol=0)
    assert (ours == exact).all(1).double().mean() > 0.95


@pytest.mark.parametrize("make", [doubled, lattice])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_of_equally_far_centres_the_lower_is_nearer(make, dim):
    # On a lattice with steps of a power of two distances are exact, and so are ties.
    side = {1: 65, 2: 17, 3: 9}[dim]
    centres = doubled(700, dim) if make is doubled else lattice(side**dim, dim)
    x = torch.cat([(centres[:200] * 64).round() / 64, 2 * centres[:100] - 0.5])
    ids = Neighbours(centres, torch.ones(dim), 8)(x)
    assert torch.equal(ids, nearest_reference(x, centres, torch.ones(dim), 8))


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_threads_and_order_do_not_matter(count):
    centres, x = clustered(3000, 3), uniform(count, 3)
    neighbours, threads = Neighbours(centres, torch.ones(3), 5), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = neighbours(x)
        torch.set_num_threads(2)
        two = Neighbours(centres, torch.ones(3), 5)(x)
    finally:
        torch.set_num_threads(threads)
    order = torch.randperm(count, generator=generator())
    assert one.shape == (count, 5)
    assert one.dtype == torch.int32
    assert torch.equal(one, two)
    assert torch.equal(neighbours(x[order]), one[order])


def test_points_that_are_not_finite_have_none():
    centres = uniform(50, 2)
    x = torch.tensor([[0.5, torch.nan], [torch.inf, 0.5], [0.5, 0.5], [-torch.inf, torch.nan]])
    for ids in (
        Neighbours(centres, torch.ones(2), 3)(x),
        nearest_reference(x, centres, torch.ones(2), 3),
    ):
        assert (ids[[0, 1, 3]] == -1).all()
        assert (ids[2] >= 0).all()


def test_centres_far_beyond_floats_are_still_numbers_of_centres():
    ids = Neighbours(uniform(50, 3), torch.ones(3), 4)(torch.full((3, 3), 3e38))
    assert ((ids >= 0) & (ids < 50)).all()


def test_the_lists_of_a_shell_stay_small():
    # Far from a shell nearly all of its centres can be the nearest; such cells have no lists. An entry is 16 bytes.
    index = Neighbours(clustered(20_000, 3), torch.ones(3), 5)._index
    assert index is not None
    assert index.numel() < 20_000 * 16 * 100


@pytest.mark.parametrize(
    ("centres", "extent", "count", "error", "sentence"),
    [
        (torch.zeros(3, 2), torch.ones(2), 4, ConfigError, "not 4 neighbours among 3 centres"),
        (torch.zeros(30, 2), torch.ones(2), 17, ConfigError, "1 to 16 neighbours"),
        (torch.zeros(30, 4), torch.ones(4), 2, ShapeError, r"must be \[M, 1 to 3\]"),
        (torch.zeros(30, 2), torch.ones(3), 2, ShapeError, "extent as long as one of them"),
    ],
)
def test_what_cannot_be_is_refused(centres, extent, count, error, sentence):
    with pytest.raises(error, match=sentence):
        Neighbours(centres, extent, count)


def test_points_of_another_size_are_refused():
    with pytest.raises(ShapeError, match=r"x must be \[N, 2\]"):
        Neighbours(torch.zeros(3, 2), torch.ones(2), 1)(torch.zeros(5, 3))


def test_whole_numbers_are_refused():
    """Their bytes would be read as those of floats."""
    corners, side = torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.ones(2)
    for wrong in (
        lambda: Neighbours(corners.long(), side, 1),
        lambda: Neighbours(corners, side.long(), 1),
    ):
        with pytest.raises(ShapeError, match="must be of floats"):
            wrong()
    with pytest.raises(ShapeError, match="x must be of floats"):
        Neighbours(corners, side, 1)(torch.tensor([[1, 0]]))
