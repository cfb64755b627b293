"""Rows normalised over whole rays: the formula, rays apart from each other, and a head made of them."""

import pytest
import torch
from torch import Generator, Tensor, nn

from polyfield.errors import ShapeError
from polyfield.fields.heads.cam import Cam, Config, build
from polyfield.fields.ops.modulate import modulate
from polyfield.fields.ops.modulate_rays import modulate_rays


def numbers(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=Generator().manual_seed(seed))


def ray_ids(count: int, rays: int = 9) -> Tensor:
    ids = torch.randint(rays, (count,), generator=Generator().manual_seed(count))
    return ids.sort().values.int()


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_each_ray_is_a_group_normalised_over_samples_and_columns(count: int) -> None:
    z, scale, shift = 3 * numbers(count, 16) + 2, numbers(count, seed=1), numbers(count, seed=2)
    ids = ray_ids(count)
    found = modulate_rays(z, scale, shift, ids)
    assert found.shape == z.shape
    for ray in ids.unique():
        rows = ids == ray
        block = z[rows].t().reshape(1, 1, -1)  # torch's own, of one group
        norm = nn.functional.group_norm(block, 1, eps=1e-6).reshape(16, -1).t()
        wanted = torch.relu(scale[rows, None] * norm + shift[rows, None])
        # Sums of some thousand numbers of size 3 in float32, in another order.
        assert torch.allclose(found[rows], wanted, rtol=1e-5, atol=1e-5)


def test_rays_do_not_know_of_each_other_and_samples_have_no_order() -> None:
    z, scale, shift, ids = numbers(200, 8), numbers(200, seed=1), numbers(200, seed=2), ray_ids(200)
    found = modulate_rays(z, scale, shift, ids)
    alone = ids == 4
    part = modulate_rays(z[alone], scale[alone], shift[alone], torch.zeros(int(alone.sum())).int())
    assert torch.allclose(part, found[alone], rtol=1e-6, atol=1e-6)
    order = torch.randperm(200, generator=Generator().manual_seed(3))
    shuffled = modulate_rays(z[order], scale[order], shift[order], ids[order])
    assert torch.allclose(shuffled, found[order], rtol=1e-5, atol=1e-6)  # sums in another order


def test_a_ray_of_one_sample_is_a_row_by_itself() -> None:
    z, scale, shift = numbers(100, 32), numbers(100, seed=1), numbers(100, seed=2)
    rows = modulate(z, scale, shift)
    # The variance is about 1, and epsilons differ by 1e-5.
    assert torch.allclose(modulate_rays(z, scale, shift, torch.arange(100)), rows, atol=1e-4)


def test_its_gradient_is_that_of_finite_differences() -> None:
    z, scale, shift = numbers(6, 3).double(), numbers(6, seed=1).double(), numbers(6, seed=2)
    leaves = [t.double().requires_grad_() for t in (z, scale, shift)]
    ids = torch.tensor([0, 0, 0, 2, 2, 3])
    assert torch.autograd.gradcheck(lambda *t: modulate_rays(*t, ids), leaves)


def test_a_nan_stays_in_its_ray() -> None:
    z, ids = numbers(20, 4), ray_ids(20, 3)
    z[0, 0] = float("nan")
    found = modulate_rays(z, torch.ones(20), torch.zeros(20), ids)
    assert torch.equal(found.isnan().all(1), ids == ids[0])
    assert not found[ids != ids[0]].isnan().any()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"but are \[4, 2\], \[4\], \[3\] and \[4\]"):
        modulate_rays(torch.zeros(4, 2), torch.ones(4), torch.ones(3), torch.zeros(4))


def head(**settings: object) -> Cam:
    config = Config(width=16, hidden=2, sides=(5, 3), angles=True, norm="ray", **settings)  # type: ignore[arg-type]
    part = build(config, 6, 4, Generator().manual_seed(0))
    with torch.no_grad():
        part.grids += 0.2 * numbers(*part.grids.shape, seed=7)
    return part


def test_a_head_of_them_sees_rays_as_a_whole() -> None:
    part, x, ids = head(), numbers(60, 6), ray_ids(60, 5)
    directions = nn.functional.normalize(numbers(60, 3, seed=3), dim=1)
    found = part(x, coordinates=directions, rays=ids)
    assert not part.pointwise
    assert part.wants_directions
    one = ids == 2
    part_of_it = part(x[one], coordinates=directions[one], rays=ids[one])
    assert torch.allclose(part_of_it, found[one], rtol=1e-4, atol=1e-5)
    moved = x.clone()
    moved[one.nonzero()[0, 0]] += 1.0
    changed = (part(moved, coordinates=directions, rays=ids) - found).abs().amax(1) > 1e-6
    assert torch.equal(changed, one)  # all samples of its ray, none of another


def test_without_rays_each_point_is_one_and_without_directions_grids_count_by_their_means() -> None:
    part, x = head(), numbers(30, 6)
    directions = nn.functional.normalize(numbers(30, 3, seed=3), dim=1)
    given = part(x, coordinates=directions, rays=torch.arange(30))
    assert torch.equal(part(x, coordinates=directions), given)
    nowhere = part(x, coordinates=None)
    assert not torch.allclose(nowhere, given, atol=1e-3)
    with torch.no_grad():
        part.grids.copy_(part.grids.mean((0, 1)).expand_as(part.grids))
    assert torch.allclose(part(x, coordinates=directions), nowhere, rtol=1e-4, atol=1e-5)
    placed = build(Config(sides=(4, 4)), 6, 4, Generator())
    with pytest.raises(ShapeError, match="left out where they are directions only"):
        placed(x, coordinates=None)
