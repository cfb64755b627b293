"""The encoder neurbf: placement by data, what it holds and counts, files."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from polyfield import native
from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.encoders.neurbf import NeuRbf
from polyfield.fields.ops.rbf import RbfShape, kernel_values
from polyfield.fields.ops.rbf_neighbours import nearest_reference
from polyfield.fields.ops.rbf_placement import place_bases
from polyfield.fields.ops.rbf_shape import KERNELS
from polyfield.fields.registry import Prepared, build_encoder

GRID = {"kind": "hash_grid", "levels": 2, "log2_table": 10, "finest": 32.0}
PIXELS = (60, 100)  # height, width


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def encoder(dim: int = 2, **changes: Any) -> NeuRbf:
    config = {"kind": "neurbf", "kernels": 300, "features": 5, **changes}
    part: NeuRbf = build_encoder(config, dim, generator())
    return part


def pixels() -> tuple[Tensor, Tensor]:
    """Centres of pixels in [0, 1]^2, x first, and their extent: a pixel is 1."""
    height, width = PIXELS
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    extent = torch.tensor([float(width), float(height)])
    return torch.stack([x, y], -1).view(-1, 2) / extent, extent


def edge_weights(points: Tensor, extent: Tensor) -> Tensor:
    """How steep the picture of a dark disc is, and next to nothing elsewhere."""
    from_rim = ((points - 0.5) * extent).norm(dim=1) - 20
    return torch.where(from_rim.abs() < 1, 1.0, 1e-3)


def test_most_kernels_go_to_an_edge():
    points, extent = pixels()
    weights = edge_weights(points, extent)
    part = encoder()
    part.prepare(points, weights, extent, generator(1))
    from_rim = ((part.centres - 0.5) * extent).norm(dim=1) - 20
    assert (from_rim.abs() <= 3).float().mean() >= 0.8


def test_kernels_lie_along_an_edge():
    # Those of a straight edge one pixel wide are wide along it and narrow across, by the ratio of a run to a pixel.
    points, extent = pixels()
    weights = ((points[:, 0] * 100 - 50).abs() < 1).float()
    shape = RbfShape(2, 1, 1)
    bases = place_bases(points, weights, extent, 6, shape, spread=0.5, generator=generator())
    across, _, along = bases.shapes.unbind(1)
    assert (across > 20 * along).all()


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("kernel", KERNELS)
def test_placed_kernels_can_be_used(dim, kernel):
    # Fewer points than kernels, all on a line: widths and correlations are clamped.
    shape = RbfShape(dim, 1, 3, kernel)
    points = torch.rand(40, 1, generator=generator()).expand(40, dim)
    extent = torch.tensor([1.0, 1e-3, 50.0])[:dim]
    bases = place_bases(
        points, torch.ones(40), extent, 60, shape, spread=0.3, generator=generator()
    )
    assert all(part.isfinite().all() for part in bases)
    x = torch.rand(500, dim, generator=generator())
    values = kernel_values(x, nearest_reference(x, bases.centres, extent, 3), bases, shape)
    assert ((values >= 0) & (values <= 1)).all()


def test_a_kernel_is_half_one_deviation_from_its_centre():
    # Points spread alike in all directions around one centre; spread 1 keeps their deviation as the width.
    points = 0.5 + 0.02 * torch.randn(20_000, 2, generator=generator())
    shape = RbfShape(2, 1, 1, normalise=False)
    bases = place_bases(
        points, torch.ones(20_000), torch.ones(2), 1, shape, spread=1.0, generator=generator()
    )
    ids = torch.zeros(1, 1, dtype=torch.int32)
    at = bases.centres + torch.tensor([[0.02, 0.0]])
    # The deviation of 20,000 draws is known to 1 / sqrt(2 * 20,000) = 0.5 %; here to four of those, halved.
    assert abs(float(kernel_values(at, ids, bases, shape)) - 0.5) < 0.01


def test_centres_are_weighted_means_of_what_is_nearest_to_them():
    points = torch.tensor([[0.1], [0.2], [0.8], [0.9]])
    weights = torch.tensor([3.0, 1.0, 1.0, 1.0])
    shape = RbfShape(1, 1, 1)
    bases = place_bases(
        points, weights, torch.ones(1), 2, shape, spread=0.5, generator=generator(3)
    )
    assert torch.allclose(bases.centres.sort(0).values[:, 0], torch.tensor([0.125, 0.85]))


def test_no_point_is_drawn_twice_and_none_of_weight_zero():
    # As many kernels as points of positive weight: each has one, and stays there.
    points, weights = torch.rand(50, 2, generator=generator()), torch.ones(50)
    weights[::2] = 0
    shape = RbfShape(2, 1, 1)
    bases = place_bases(
        points, weights, torch.ones(2), 25, shape, spread=0.5, generator=generator()
    )
    one, other = (t[t[:, 0].argsort()] for t in (bases.centres, points[1::2]))
    assert torch.allclose(one, other)


def test_a_flat_picture_spreads_its_kernels():
    points, extent = pixels()
    part = encoder()
    part.prepare(points, torch.zeros(len(points)), extent, generator(1))
    assert (part.centres.std(0) - math.sqrt(1 / 12)).abs().max() < 0.05


def test_placement_depends_on_its_generator_alone():
    points, extent = pixels()
    weights, threads = edge_weights(points, extent), torch.get_num_threads()
    states = []
    try:
        for some in (1, 2):
            torch.set_num_threads(some)
            part = encoder()
            part.prepare(points, weights, extent, generator(7))
            states.append(part.state_dict())
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize(
    ("points", "weights", "sentence"),
    [
        (torch.zeros(5, 3), torch.zeros(5), r"by points \[P, 2\]"),
        (torch.zeros(0, 2), torch.zeros(0), r"not by \[0, 2\]"),
        (torch.zeros(5, 2), torch.full((5,), -1.0), "at least 0"),
        (torch.full((5, 2), torch.nan), torch.ones(5), "finite points"),
    ],
)
def test_data_that_cannot_place_are_refused(points, weights, sentence):
    with pytest.raises(ShapeError, match=sentence):
        encoder().prepare(points, weights, torch.ones(2), generator())


def test_a_saved_encoder_gives_the_same_bits():
    points, extent = pixels()
    part, other = encoder(grid=GRID), encoder(grid=GRID)
    other(points)  # has found neighbours among centres that are then replaced
    part.prepare(points, edge_weights(points, extent), extent, generator(1))
    expected = part(points)
    assert not torch.equal(other(points), expected)
    other.load_state_dict(part.state_dict())
    assert torch.equal(other(points), expected)


def test_an_encoder_takes_no_memory_on_the_device_meta():
    with torch.device("meta"):
        part = encoder(grid=GRID, stored=100_000)
    assert all(tensor.is_meta for tensor in part.state_dict().values())
    assert len(part.centres) == len(encoder(grid=GRID, stored=100_000).centres)


def test_the_grid_comes_first_and_its_groups_go_through():
    part = encoder(grid=GRID, initial_bias=0)
    x = torch.rand(50, 2, generator=generator())
    assert torch.equal(part(x)[:, :4], part.grid(x))
    assert [group.name for group in part.groups()] == ["grid.table", "features"]
    part(x).square().sum().backward()
    for group in part.groups():
        assert group.gradient is not None
        assert group.gradient.touched.any()
        assert group.parameters[0].grad is None


def test_the_bias_is_added_to_all_features():
    part, x = encoder(grid=GRID), torch.rand(7, 2, generator=generator())
    bias = part.bias
    assert bias is not None
    before = part(x)
    with torch.no_grad():
        bias += 1
    assert torch.allclose(part(x), before + 1)
    part(x).sum().backward()
    assert bias.grad is not None
    assert torch.equal(bias.grad, torch.full((9,), 7.0))


@pytest.mark.parametrize("frozen", ["centres", "shapes", "extent"])
def test_centres_and_shapes_are_kept_but_not_trained(frozen):
    part = encoder()
    assert frozen in part.state_dict()
    assert frozen not in dict(part.named_parameters())


def test_it_is_prepared_by_data():
    assert isinstance(encoder(), Prepared)


def test_it_runs_without_autograd_and_in_inference_mode():
    part, x = encoder(), torch.rand(9, 2, generator=generator())
    with torch.inference_mode():
        inside = part(x)
        assert torch.equal(inside, encoder()(x))
    assert torch.equal(inside, part(x).detach())


MLP_SDF = 32 * 64 + 64 + 64 * 64 + 64 + 64 + 1
MLP_IMAGE = 36 * 64 + 64 + 64 * 64 + 64 + 64 * 3 + 3


@pytest.mark.parametrize(
    ("log2_table", "reference", "kernels", "printed"),
    [
        (15, 950_417, 23_600, 856_009),
        (14, 497_617, 12_280, 448_489),
        (13, 260_289, 6_347, 234_897),
        (12, 137_409, 3_275, 124_305),
    ],
)
def test_budgets_of_the_paper_for_distance_fields(log2_table, reference, kernels, printed):
    grid = {
        "kind": "hash_grid",
        "features": 1,
        "log2_table": log2_table,
        "layout": "torch-ngp-aligned",
    }
    part = encoder(
        3, grid=grid, stored=reference - MLP_SDF, features=16, neighbours=8, kernel="tent"
    )
    assert len(part.centres) == kernels
    assert sum(p.numel() for p in part.parameters()) + MLP_SDF == printed


def test_budget_of_the_paper_for_a_picture():
    grid = {
        "kind": "hash_grid",
        "levels": 2,
        "log2_table": 18,
        "finest": 1020.0,
        "layout": "torch-ngp-aligned",
    }
    part = encoder(grid=grid, stored=4_905_747 - MLP_IMAGE, features=32)
    assert len(part.centres) == 118_221
    # The paper prints 4.31 M.
    assert sum(p.numel() for p in part.parameters()) + MLP_IMAGE == 4_314_631


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kernels": 3}, "kernels must be 4"),
        ({"neighbours": 17}, "1 to 16 neighbours"),
        ({"kernel": "tents"}, "Did you mean 'tent'"),
        ({"frequencies": [3, 1]}, "from a = 3.0 to b = 1.0"),
        ({"spread": 0}, "spread must be above 0"),
        ({"initial_bias": -1}, "must be 0 or above"),
        ({"grid": {"kind": "hash_gird"}}, "Did you mean 'hash_grid'"),
        # Bias 5, four kernels of 5 features, 2 coordinates and 3 numbers of a shape.
        ({"stored": 44}, "at least 45 here"),
    ],
)
def test_configs_that_cannot_be_are_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        encoder(**changes)


def test_points_of_four_coordinates_are_refused():
    with pytest.raises(ConfigError, match="1 to 3 coordinates, not 4"):
        encoder(4)


@pytest.mark.skipif(not native.available(), reason="what is kept between calls is native")
def test_neighbours_are_kept_until_the_centres_move():
    part = encoder()
    first = part.neighbours()
    assert part.neighbours() is first
    part.centres.add_(0.1)
    assert part.neighbours() is not first
