import math
from typing import Any

import pytest
import torch
from torch import Tensor

from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.samples import Samples
from polyfield.renderers.march import (
    MarchSettings,
    march,
    march_stretch,
    march_stretch_reference,
)
from polyfield.renderers.occupancy import OccupancyGrid

LOW, HIGH = (-1.0, -1.5, -1.0), (1.0, 1.5, 2.0)  # not a cube, not about the origin


def march_reference(*arguments: Any) -> Samples:
    return march_stretch_reference(*arguments).samples


BOTH = [march, march_reference]
INF = math.inf


def grid_of(share: float, levels: int = 1, resolution: int = 32, seed: int = 0) -> OccupancyGrid:
    """A grid in which this share of the cells is occupied."""
    grid = OccupancyGrid(LOW, HIGH, levels=levels, resolution=resolution)
    if share < 1:
        g = torch.Generator().manual_seed(seed)
        grid.set_from_hull(torch.rand(grid.values.shape, generator=g) < share)
    return grid


def rays_of(count: int, seed: int = 0, spread: float = 2.0) -> tuple[Tensor, Tensor, Tensor]:
    """Origins inside and outside the box, any directions, some along the axes; and jitter."""
    g = torch.Generator().manual_seed(seed)
    origins = torch.randn(count, 3, generator=g) * spread
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1)
    axes = torch.cat([torch.eye(3), -torch.eye(3)])[:count]
    directions[: len(axes)] = axes
    origins[: len(axes)] *= 0.2
    return origins, directions, torch.rand(count, generator=g)


def same(one: Samples, other: Samples) -> bool:
    names = ("positions", "t0", "t1", "ray_offsets", "ray_ids", "directions")
    return all(torch.equal(getattr(one, n), getattr(other, n)) for n in names)


def lone(origin: list[float], direction: list[float]) -> tuple[Tensor, Tensor]:
    return torch.tensor([origin]), torch.tensor([direction])


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.3, 0.9])
@pytest.mark.parametrize(("levels", "cone"), [(1, 0.0), (3, 0.0), (3, 1 / 64), (1, 1 / 64)])
def test_skipping_changes_no_sample(share: float, levels: int, cone: float) -> None:
    """The law of the marcher: it takes what it would take everywhere, in occupied cells only."""
    grid, full = grid_of(share, levels), grid_of(1, levels)
    origins, directions, jitter = rays_of(300 if share > 0.001 else 3000)
    settings = MarchSettings(0.01, cone, 1 << 20)
    some = march(origins, directions, 0.1, INF, grid, settings, jitter)
    every = march(origins, directions, 0.1, INF, full, settings, jitter)
    keep = grid.occupied(every.positions)
    assert 0 < len(some) < len(every)
    assert torch.equal(every.positions[keep], some.positions)
    assert torch.equal(every.t0[keep], some.t0)
    assert torch.equal(every.t1[keep], some.t1)
    assert torch.equal(every.ray_ids[keep], some.ray_ids)


@pytest.mark.parametrize("share", [0.01, 1.0])
@pytest.mark.parametrize(("levels", "cone"), [(1, 0.0), (3, 0.0), (4, 1 / 32)])
def test_kernel_agrees_with_the_reference(share: float, levels: int, cone: float) -> None:
    grid = grid_of(share, levels)
    origins, directions, jitter = rays_of(200, seed=5)
    settings = MarchSettings(0.02, cone, 1 << 20)
    ours = march(origins, directions, 0.1, 30.0, grid, settings, jitter)
    truth = march_reference(
        origins.double(), directions.double(), 0.1, 30.0, grid.double(), settings, jitter.double()
    )
    # A sample within rounding of a cell's or the box's face may fall to either side: a few in a thousand.
    assert (ours.ray_offsets.diff() - truth.ray_offsets.diff()).abs().sum() <= 3 + 0.002 * len(ours)
    alike = ours.ray_offsets.diff() == truth.ray_offsets.diff()
    rows, other = alike[ours.ray_ids], alike[truth.ray_ids]
    # float32 times up to 30: 2e-6 each in position, and the cone's exponential 2 ulp of an exponent near 5.
    close = {"rtol": 1e-5, "atol": 2e-5}
    torch.testing.assert_close(ours.positions[rows].double(), truth.positions[other], **close)
    torch.testing.assert_close(ours.t0[rows].double(), truth.t0[other], **close)
    torch.testing.assert_close(ours.t1[rows].double(), truth.t1[other], **close)
    assert torch.equal(ours.ray_ids[rows], truth.ray_ids[other])


@pytest.mark.parametrize("cone", [0.0, 1 / 64])
def test_any_number_of_threads_gives_the_same(cone: float) -> None:
    grid = grid_of(0.05, 2)
    arguments = rays_of(3000)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        origins, directions, jitter = arguments
        settings = MarchSettings(0.01, cone)
        results.append(march(origins, directions, 0.0, INF, grid, settings, jitter))
    torch.set_num_threads(2)
    assert same(results[0], results[1])
    assert same(results[0], results[2])


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize("cone", [0.0, 1 / 16])
def test_intervals_tile_the_ray(function, cone: float) -> None:
    origins, directions, jitter = rays_of(50)
    settings = MarchSettings(0.05, cone)
    samples = function(origins, directions, 0.2, 3.0, grid_of(1, 3), settings, jitter)
    for r in range(50):
        rows = slice(*samples.ray_offsets[r : r + 2].tolist())
        t0, t1 = samples.t0[rows], samples.t1[rows]
        assert torch.equal(t0[1:], t1[:-1])
        assert (t1 > t0).all()
        assert (t0 >= 0.2).all()
        assert (t1 <= 3.0).all()
        t = ((samples.positions[rows] - origins[r]) * directions[r]).sum(1)
        # the position is recovered from float32 coordinates of size 5
        assert (t >= t0 - 1e-5).all()
        assert (t <= t1 + 1e-5).all()


@pytest.mark.parametrize("function", BOTH)
def test_steps_grow_with_distance_between_their_limits(function) -> None:
    origins, directions = lone([-7.9, 0.0, 0.0], [1.0, 0.0, 0.0])
    grid = OccupancyGrid((-1,) * 3, (1,) * 3, levels=4, resolution=16)  # outermost box: 8
    samples = function(origins, directions, 0.0, INF, grid, MarchSettings(0.05, 1 / 16))
    inner = slice(1, -1)  # the first and the last are cut by the box
    length, middle = (samples.t1 - samples.t0)[inner], 0.5 * (samples.t0 + samples.t1)[inner]
    wanted = (middle / 16).clamp(0.05, 0.4)
    # Where the growth begins or ends within a step, it is in between.
    torch.testing.assert_close(length, wanted, rtol=0.04, atol=0)
    assert length.max() == pytest.approx(0.4, rel=1e-3)
    assert length.min() == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize("function", BOTH)
def test_jitter_moves_samples_by_parts_of_a_step(function) -> None:
    origins, directions = lone([-3.0, 0.1, 0.2], [1.0, 0.0, 0.0])
    settings = MarchSettings(0.125)
    for jitter in (0.0, 0.25, 0.75):
        samples = function(
            origins, directions, 0.0, INF, grid_of(1), settings, torch.tensor([jitter])
        )
        assert samples.positions[:3, 0].tolist() == pytest.approx(
            [-1 + (k + jitter) * 0.125 for k in range(3)], abs=1e-6
        )
    middle = function(origins, directions, 0.0, INF, grid_of(1), settings)
    assert middle.positions[0, 0].item() == pytest.approx(-1 + 0.0625, abs=1e-6)
    assert middle.t0[0].item() == pytest.approx(2.0)
    assert len(middle) == 16


ODD = {
    "beside the box": ([5.0, 5.0, 5.0], [0.0, 0.0, 1.0]),
    "away from the box": ([0.0, 0.0, 5.0], [0.0, 0.0, 1.0]),
    "no direction": ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    "NaN origin": ([math.nan, 0.0, 0.0], [0.0, 0.0, 1.0]),
    "infinite origin": ([0.0, -INF, 0.0], [0.0, 1.0, 0.0]),
    "NaN direction": ([0.0, 0.0, 0.0], [0.0, math.nan, 1.0]),
    "infinite direction": ([0.0, 0.0, 0.0], [0.0, INF, 0.0]),
}


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("cone", [0.0, 1 / 64])
def test_rays_without_samples(function, case: str, cone: float) -> None:
    origins, directions = lone(*ODD[case])
    samples = function(origins, directions, 0.0, INF, grid_of(1, 2), MarchSettings(0.1, cone))
    assert samples.ray_offsets.tolist() == [0, 0]
    assert len(samples) == len(samples.t0) == len(samples.ray_ids) == 0


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize(
    ("near", "far"),
    [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (0.0, math.nan), (-INF, 1.0), (INF, INF)],
)
def test_empty_and_broken_limits(function, near: float, far: float) -> None:
    origins, directions = lone([0.0, 0.0, 0.0], [0.0, 0.0, 1.0])
    samples = function(origins, directions, near, far, grid_of(1), MarchSettings(0.1))
    assert len(samples) == 0


@pytest.mark.parametrize("function", BOTH)
def test_inside_outside_and_along_a_face(function) -> None:
    settings = MarchSettings(0.25)
    for origin, direction, count in (
        ([0.0, 0.0, 0.0], [0.0, 0.0, 1.0], 8),  # from inside, 2 to go
        ([0.0, 0.0, -4.0], [0.0, 0.0, 1.0], 12),  # through the whole box
        ([0.0, 0.0, 5.0], [0.0, 0.0, -1.0], 12),
        ([1.0, 1.5, -4.0], [0.0, 0.0, 1.0], 12),  # along an edge: still the box
    ):
        samples = function(*lone(origin, direction), 0.0, INF, grid_of(1), settings)
        assert len(samples) == count, origin


@pytest.mark.parametrize("function", BOTH)
def test_no_rays(function) -> None:
    nothing = torch.zeros(0, 3)
    samples = function(nothing, nothing, 0.0, 1.0, grid_of(1), MarchSettings(0.1), torch.zeros(0))
    assert samples.ray_offsets.tolist() == [0]
    assert samples.rays == len(samples) == 0


@pytest.mark.parametrize("function", BOTH)
def test_a_ray_keeps_its_nearest_samples(function) -> None:
    origins, directions, jitter = rays_of(100, spread=0.5)
    grid = grid_of(0.3)
    whole = function(origins, directions, 0.0, INF, grid, MarchSettings(0.02), jitter)
    cut = function(origins, directions, 0.0, INF, grid, MarchSettings(0.02, max_samples=7), jitter)
    counts = whole.ray_offsets.diff()
    assert torch.equal(cut.ray_offsets.diff(), counts.clamp(max=7))
    place = torch.arange(len(whole)) - whole.ray_offsets[:-1][whole.ray_ids]
    assert torch.equal(cut.positions, whole.positions[place < 7])


@pytest.mark.parametrize("function", BOTH)
def test_a_batch_keeps_the_rays_that_fit(function) -> None:
    origins, directions, jitter = rays_of(100, spread=0.5)
    grid = grid_of(0.3)
    whole = function(origins, directions, 0.0, INF, grid, MarchSettings(0.02), jitter)
    limit = int(whole.ray_offsets[40]) + 1
    cut = function(
        origins, directions, 0.0, INF, grid, MarchSettings(0.02, max_total=limit), jitter
    )
    fit = int((whole.ray_offsets <= limit).sum()) - 1
    assert cut.rays == fit >= 40
    assert torch.equal(cut.ray_offsets, whole.ray_offsets[: fit + 1])
    assert torch.equal(cut.positions, whole.positions[: len(cut)])
    assert torch.equal(cut.directions, directions[:fit])
    first = int((whole.ray_offsets.diff() > 3).nonzero()[0])
    one = function(
        origins[first:],
        directions[first:],
        0.0,
        INF,
        grid,
        MarchSettings(0.02, max_total=3),
        jitter[first:],
    )
    assert one.rays >= 1
    assert len(one) == 3


def test_limits_may_differ_from_ray_to_ray() -> None:
    origins, directions, jitter = rays_of(40, spread=0.3)
    near, far = torch.linspace(0, 0.5, 40), torch.linspace(0.6, 2, 40)
    samples = march(origins, directions, near, far, grid_of(1), MarchSettings(0.05), jitter)
    rows = samples.ray_ids.long()
    assert (samples.t0 >= near[rows]).all()
    assert (samples.t1 <= far[rows]).all()


def test_messages() -> None:
    origins, directions, _ = rays_of(4)
    grid = grid_of(1)
    with pytest.raises(
        ShapeError, match=r"march: near must be \[4\], one for each ray, but is \[3\]"
    ):
        march(origins, directions, torch.zeros(3), 1.0, grid, MarchSettings(0.1))
    with pytest.raises(ShapeError, match=r"origins and directions must both be \[R, 3\]"):
        march(origins, directions[:2], 0.0, 1.0, grid, MarchSettings(0.1))
    with pytest.raises(
        ConfigError, match=r"cuts the box's diagonal .* Use a longer step or a smaller"
    ):
        march(origins, directions, 0.0, 1.0, grid, MarchSettings(1e-7))
    with pytest.raises(ConfigError, match="step must be finite and above 0"):
        MarchSettings(0.0)
    with pytest.raises(ConfigError, match="max_samples and max_total must be at least 1"):
        MarchSettings(0.1, max_samples=0)


@pytest.mark.parametrize(("levels", "cone"), [(1, 0.0), (3, 1 / 64)])
@pytest.mark.parametrize(("most", "deep"), [(5, INF), (1 << 20, 0.7), (7, 0.7)])
def test_law_of_stretches(levels: int, cone: float, most: int, deep: float) -> None:
    """Stretches one behind the other are the march that nothing cuts."""
    grid = grid_of(0.2, levels)
    g = torch.Generator().manual_seed(1)
    grid.values.mul_(0.0).add_(torch.rand(grid.values.shape, generator=g))
    grid.threshold.fill_(0.8)
    grid.refresh()
    origins, directions, jitter = rays_of(300)
    arguments = (origins, directions, 0.1, INF, grid)
    whole = march(*arguments, MarchSettings(0.01, cone, 1 << 20), jitter)
    settings = MarchSettings(0.01, cone, most, max_depth=deep)
    parts: list[list[Samples]] = [[] for _ in range(300)]
    rays, begin, marches = torch.arange(300), None, 0
    while len(rays):
        stretch = march_stretch(
            origins[rays], directions[rays], 0.1, INF, grid, settings, jitter[rays], begin
        )
        some, marches = stretch.samples, marches + 1
        counts = some.ray_offsets.diff()
        assert int(counts.max()) <= most
        # A stretch ends where its cells' values reach the limit, and not before.
        depths = torch.zeros(len(rays)).index_add_(
            0, some.ray_ids, grid.values.view(-1)[grid.cells_of(some.positions)]
        )
        assert ((stretch.resume < 0) | (counts == most) | (depths >= deep)).all()
        last = some.ray_offsets[1:][counts > 0] - 1
        values = grid.values.view(-1)[grid.cells_of(some.positions[last])]
        # The last one brought it there; 1e-5 for sums of up to hundreds of values in another order.
        assert (depths[counts > 0] - values < deep + 1e-5).all()
        rows = some.ray_offsets.tolist()
        for i, ray in enumerate(rays.tolist()):
            parts[ray].append(
                Samples(
                    some.positions[rows[i] : rows[i + 1]],
                    some.t0[rows[i] : rows[i + 1]],
                    some.t1[rows[i] : rows[i + 1]],
                    some.ray_offsets,
                    some.ray_ids,
                    some.directions,
                )
            )
        going = (stretch.resume >= 0).nonzero()[:, 0]
        rays, begin = rays[going], stretch.resume[going]
    assert marches > 1
    for name in ("positions", "t0", "t1"):
        assert torch.equal(
            torch.cat([getattr(p, name) for ray in parts for p in ray]), getattr(whole, name)
        )


def test_a_stretch_agrees_with_the_reference() -> None:
    grid = grid_of(0.3, 2)
    grid.values[grid.distance == 0] = 0.25  # sums of it are exact
    origins, directions, jitter = rays_of(200, seed=5)
    settings = MarchSettings(0.02, 0.0, 20, max_depth=3.0)
    begin = torch.arange(200, dtype=torch.int32) % 50
    arguments = (origins, directions, 0.1, 30.0, grid, settings, jitter, begin)
    ours, theirs = march_stretch(*arguments), march_stretch_reference(*arguments)
    # A sample within rounding of a cell's face may fall to either side: a few rays in a hundred at most.
    alike = ours.samples.ray_offsets.diff() == theirs.samples.ray_offsets.diff()
    assert alike.float().mean() > 0.95
    assert (ours.resume == theirs.resume).float().mean() > 0.95
    assert (ours.resume >= 0).any()
    assert (ours.resume < 0).any()
    assert int(ours.samples.ray_offsets.diff().max()) == 12


@pytest.mark.parametrize("march_on", [march_stretch, march_stretch_reference])
@pytest.mark.parametrize("cone", [0.0, 1 / 256])
def test_a_ray_that_has_ended_gets_no_more_samples(march_on, cone: float) -> None:
    grid, settings = grid_of(1), MarchSettings(0.05, cone, 10)
    origins, directions, jitter = rays_of(50)
    arguments = (origins, directions, 0.1, INF, grid, settings, jitter)
    every = march_on(*arguments, torch.zeros(50, dtype=torch.int32))
    begin = torch.zeros(50, dtype=torch.int32)
    begin[::2], begin[1::4] = -1, -7
    some = march_on(*arguments, begin)
    wanted = every.samples.ray_offsets.diff().where(begin == 0, 0)
    assert wanted.any()
    assert torch.equal(some.samples.ray_offsets.diff(), wanted)
    assert torch.equal(some.resume, every.resume.where(begin == 0, -1))
    assert (some.samples.t1 > some.samples.t0).all()


@pytest.mark.parametrize("march_on", [march_stretch, march_stretch_reference])
@pytest.mark.parametrize("number", [math.nan, INF, -INF])
def test_rays_that_are_not_finite_have_no_samples(march_on, number: float) -> None:
    grid, settings = grid_of(1), MarchSettings(0.05)
    origins, directions, _ = rays_of(6)
    whole = march_on(origins, directions, 0.1, INF, grid, settings).samples.ray_offsets.diff()
    origins, directions = origins.clone(), directions.clone()
    origins[0, 1] = origins[1] = directions[2, 0] = directions[3] = number
    some = march_on(origins, directions, 0.1, INF, grid, settings).samples.ray_offsets.diff()
    assert whole[4:].any()
    assert some.tolist() == [0, 0, 0, 0, *whole[4:].tolist()]


@pytest.mark.parametrize("name", ["origins", "directions", "jitter"])
def test_rays_are_of_floats(name: str) -> None:
    given = dict(zip(("origins", "directions", "jitter"), rays_of(10), strict=True))
    given[name] = given[name].long()
    with pytest.raises(ShapeError, match=f"march: {name} must be of floats, but is torch.int64"):
        march(near=0.0, far=INF, grid=grid_of(1), settings=MarchSettings(0.1), **given)


def test_where_to_begin_is_checked() -> None:
    origins, directions, _ = rays_of(10)
    with pytest.raises(ShapeError, match=r"begin must be int32 \[10\], but is torch.int64 \[10\]"):
        march_stretch(
            origins, directions, 0.0, INF, grid_of(1), MarchSettings(0.1), None, torch.arange(10)
        )
