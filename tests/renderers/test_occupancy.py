import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from polyfield import native
from polyfield.errors import ConfigError, InputError, ShapeError
from polyfield.renderers.occupancy import CARVED, UNSEEN, OccupancyGrid

STEP = 0.01


def ball(points: Tensor) -> Tensor:
    """Density 20 in a ball of radius 0.7: an optical depth of 0.2 a step."""
    return (points.square().sum(1) < 0.49).float() * 20


def small(**options: float) -> OccupancyGrid:
    return OccupancyGrid(
        (-1.5, -1, -1), (1.5, 1.5, 1.5), **{"levels": 2, "resolution": 16} | options
    )


def trained(rounds: int = 30, **options: float) -> OccupancyGrid:
    grid, generator = small(**options), torch.Generator().manual_seed(0)
    for i in range(rounds):
        grid.update(ball, STEP, generator, warm=i < 10, cells=2000)
    return grid


@pytest.fixture
def torch_only(monkeypatch: pytest.MonkeyPatch):
    """Switches the kernels off when called."""
    return lambda: monkeypatch.setattr(native, "usable", lambda *_: False)


def centers(grid: OccupancyGrid, level: int) -> Tensor:
    n = grid.resolution
    axis = (torch.arange(n) + 0.5) * (2 / n) - 1
    q = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).view(-1, 3)
    return grid.center + q * grid.half_size * 2**level


def test_cells_are_numbered_x_first_and_levels_double() -> None:
    grid = small()
    n = grid.resolution
    assert torch.equal(grid.cells_of(centers(grid, 0)), torch.arange(n**3))
    outer = grid.cells_of(centers(grid, 1))
    index = torch.arange(n**3)
    x, y, z = index // n**2, index // n % n, index % n
    inner = torch.stack([x, y, z]).sub(n / 2 - 0.5).abs().amax(0) < n / 4
    assert torch.equal(outer[~inner], index[~inner] + n**3)
    assert (outer[inner] < n**3).all()


def test_random_points_lie_in_their_cells() -> None:
    grid = small(levels=3)
    cells = torch.arange(grid.values.numel())[grid.values.view(-1) != CARVED]
    points = grid.random_points(cells, 5)
    assert torch.equal(grid.cells_of(points), cells)
    assert torch.equal(points, grid.random_points(cells, 5))
    assert not torch.equal(points, grid.random_points(cells, 6))
    # Uniform in the cell: the mean of 15,000 places has a standard deviation of 0.0024.
    n = grid.resolution
    level = cells // n**3
    q = (points - grid.center) / (grid.half_size * 2.0 ** level[:, None])
    places = ((q + 1) * n / 2) % 1
    assert (places.mean(0) - 0.5).abs().max() < 0.01


def test_update_finds_what_is_there() -> None:
    grid = trained()
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(5000, 3, generator=generator) * 4 - 2
    inside, outside = points.norm(dim=1) < 0.65, points.norm(dim=1) > 0.7 + 2 * 0.33
    assert grid.occupied(points[inside]).all()  # cells of the finest level are 0.33 across at most
    assert not grid.occupied(points[outside]).any()


def test_kernels_agree_with_torch(torch_only) -> None:
    ours = trained()
    draw = ours._draw(1001, 77)
    points = ours.random_points(draw, 78)
    torch_only()
    plain = trained()
    assert torch.equal(plain.values, ours.values)
    # A mean of 7,000 numbers, summed in another order.
    torch.testing.assert_close(plain.threshold, ours.threshold, rtol=1e-6, atol=0)
    assert torch.equal(plain._draw(1001, 77), draw)
    # One rounding more or less with fused multiply-adds, of coordinates up to 4.
    torch.testing.assert_close(plain.random_points(draw, 78), points, rtol=0, atol=1e-6)
    where = torch.rand(4000, 3, generator=torch.Generator().manual_seed(3)) * 6 - 3
    assert torch.equal(plain.occupied(where), ours.occupied(where))
    assert torch.equal(plain.occupied_cells(), ours.occupied_cells())


def test_any_number_of_threads_gives_the_same() -> None:
    grids = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        grids.append(trained(resolution=32))
    assert torch.equal(grids[0].values, grids[1].values)
    assert torch.equal(grids[0].distance, grids[1].distance)


@pytest.mark.skipif(not native.available(), reason="without the kernel there are no distances")
@pytest.mark.parametrize("resolution", [4, 16, 64])
@pytest.mark.parametrize("share", [0.0002, 0.01, 0.5])
def test_distances_are_exact(resolution: int, share: float) -> None:
    grid = OccupancyGrid((0,) * 3, (1,) * 3, resolution=resolution)
    kept = torch.rand(resolution**3, generator=torch.Generator().manual_seed(1)) < share
    kept[7] = True
    grid.set_from_hull(kept)
    near = kept.view(1, 1, *(resolution,) * 3).float()
    wanted = torch.full((resolution,) * 3, 120)  # as far as the kernel counts
    for distance in range(resolution):
        wanted[(near[0, 0] > 0) & (wanted == 120)] = distance
        near = torch.nn.functional.max_pool3d(near, 3, 1, 1)
    assert torch.equal(grid.distance.view_as(wanted).long(), wanted)


def test_values_decay_and_rise() -> None:
    grid = OccupancyGrid((0,) * 3, (1,) * 3, resolution=4, decay=0.5)
    assert grid.values.isinf().all()
    for density, wanted in ((8.0, 8.0), (1.0, 4.0), (3.0, 3.0), (math.nan, 1.5), (math.inf, 3e38)):
        grid.update(lambda p, d=density: torch.full((len(p),), d), 1.0, warm=True)
        assert grid.values.unique().tolist() == pytest.approx([wanted])


def test_warming_up_visits_every_cell_once_a_round() -> None:
    grid = OccupancyGrid((0,) * 3, (1,) * 3, resolution=8)
    for i in range(3):
        assert int(grid.values.isinf().sum()) == 512 - 150 * i
        grid.update(lambda p: p[:, 0] * 0, STEP, warm=True, cells=150)
    grid.update(lambda p: p[:, 0] * 0, STEP, warm=True, cells=62)
    assert not grid.values.isinf().any()


def test_a_later_update_looks_at_occupied_cells_above_all() -> None:
    grid = trained()
    occupied = grid.occupied_cells()
    seen: list[Tensor] = []
    grid.update(lambda p: (seen.append(p), ball(p))[1], STEP, warm=False, cells=1000)
    share = torch.isin(grid.cells_of(seen[0]), occupied).float().mean()
    assert len(seen[0]) == 1000
    assert share > 0.5


def test_what_was_emptied_by_mistake_is_found_again() -> None:
    grid, generator = small(resolution=64), torch.Generator().manual_seed(2)
    grid.update(ball, STEP, generator, warm=True, cells=2 * 64**3)
    whole = grid.occupied_cells()
    lost = torch.rand(len(whole), generator=generator) < 0.5
    grid.values.view(-1)[whole[lost]] = 0.0
    grid.refresh()
    # Six looks at a fiftieth of the cells: drawn from all, a tenth would be found.
    for _ in range(6):
        grid.update(ball, STEP, generator, cells=2 * 64**3 // 50)
    assert grid.occupied(grid.random_points(whole[lost], 1)).float().mean() > 0.5


@pytest.mark.parametrize("kernels", [True, False])
def test_neighbours_are_near_and_alive(kernels: bool, torch_only) -> None:
    if not kernels:
        torch_only()
    grid = small()
    n = grid.resolution
    corner, edge = 0, (n - 1) * n * n + 5 * n + 7  # of the finest level
    # Its neighbours along +x belong to the finer level.
    outer = n**3 + (n // 4 - 1) * n * n + 8 * n + 8
    for cell in (corner, edge, outer):
        ids = torch.empty(4000, dtype=torch.int64)
        grid._pick_near(3, torch.tensor([cell]), ids)
        assert (grid.values.view(-1)[ids] >= 0).all()
        assert (ids // n**3 == cell // n**3).all()
        place = torch.stack([ids // n**2 % n, ids // n % n, ids % n], 1)
        own = torch.tensor([cell // n**2 % n, cell // n % n, cell % n])
        assert (place - own).abs().max() == 1
        # All that there are, each about as often: 4000 / 27 = 148 with a standard deviation of 12.
        neighbours, often = ids[ids != cell].unique(return_counts=True)
        assert len(neighbours) == {corner: 7, edge: 17, outer: 17}[cell]
        assert often.min() > 148 - 5 * 12
        assert often.max() < 148 + 5 * 12


def test_never_empty() -> None:
    grid = small()
    for _ in range(20):
        grid.update(lambda p: torch.zeros(len(p)), STEP, warm=True, cells=10000)
    anywhere = torch.rand(100, 3) * 2 - 1
    assert grid.occupied(anywhere).all()
    grid.update(lambda p: torch.zeros(len(p)), STEP)
    nothing = small()
    nothing.set_from_hull(torch.zeros_like(nothing.values, dtype=torch.bool))
    assert nothing.occupied(anywhere).all()
    nothing.update(ball, STEP)


def test_what_is_carved_away_stays_away() -> None:
    grid = OccupancyGrid((-1,) * 3, (1,) * 3, resolution=16)
    kept = centers(grid, 0)[:, 0] > 0
    grid.set_from_hull(kept)
    seen: list[Tensor] = []
    for i in range(8):
        grid.update(lambda p: (seen.append(p), ball(p))[1], STEP, warm=i < 4, cells=1000)
    assert (torch.cat(seen)[:, 0] >= 0).all()
    assert (grid.values.view(-1)[~kept] == CARVED).all()
    assert not grid.occupied(torch.tensor([[-0.1, 0.0, 0.0]])).any()
    assert grid.occupied(torch.tensor([[0.1, 0.0, 0.0]])).all()


def test_state_comes_back() -> None:
    grid, generator = trained(), torch.Generator().manual_seed(9)
    grid.set_from_hull(grid.distance == 0)
    grid.update(ball, STEP, generator, warm=True, cells=100)
    state = {k: v.clone() for k, v in grid.state().items()}
    assert {v.dtype for v in state.values()} == {torch.float32, torch.int64}
    other = small()
    other.load_state(state)
    assert torch.equal(other.distance, grid.distance)
    for g in (grid, other):
        generator.manual_seed(4)
        g.update(ball, STEP, generator, warm=True, cells=500)
        g.update(ball, STEP, generator, cells=500)
    assert torch.equal(other.values, grid.values)
    assert torch.equal(other.distance, grid.distance)


def test_threshold_is_the_smaller_of_the_limit_and_the_mean() -> None:
    grid = OccupancyGrid((0,) * 3, (1,) * 3, resolution=4, min_threshold=0.6)
    grid.update(lambda p: p[:, 0], 1.0, warm=True)
    assert grid.threshold.item() == pytest.approx(grid.values.mean().item(), rel=1e-6)
    grid.update(lambda p: p[:, 0] + 3, 1.0, warm=True)
    assert grid.threshold.item() == pytest.approx(0.6)


def test_a_point_that_is_nowhere_is_in_no_occupied_cell() -> None:
    points = torch.zeros(4, 3)
    points[0, 0] = points[1] = math.nan
    points[2, 1] = math.inf
    grid = small()
    assert grid.occupied(points).tolist() == [False, False, True, True]
    assert (grid.cells_of(points) < grid.values.numel()).all()


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("give", [lambda d: d[:5], lambda d: d[:, None], lambda d: d[0]])
def test_a_density_for_other_points_than_asked_is_refused(
    give: Callable[[Tensor], Tensor], warm: bool
) -> None:
    grid = small()
    before = grid.values.clone()
    with pytest.raises(ShapeError, match=r"density must give \[1000\], one for each point, but"):
        grid.update(lambda p: give(p[:, 0]), STEP, warm=warm, cells=1000)
    assert torch.equal(grid.values, before)


def test_messages() -> None:
    with pytest.raises(
        ConfigError, match="resolution must be a power of two from 4 to 256, but is 100"
    ):
        small(resolution=100)
    with pytest.raises(ConfigError, match="levels must lie in 1 to 8, but is 9"):
        small(levels=9)
    with pytest.raises(ConfigError, match="decay must lie in"):
        small(decay=0)
    with pytest.raises(InputError, match="the box needs low < high in three finite numbers"):
        OccupancyGrid((0, 0, 0), (1, 0, 1))
    with pytest.raises(ShapeError, match=r"the hull must have 2 x 16\^3 cells, but has \[5\]"):
        small().set_from_hull(torch.ones(5))
    with pytest.raises(ShapeError, match=r"points must be \[N, 3\], but are \[3\]"):
        small().occupied(torch.zeros(3))
    with pytest.raises(ShapeError, match=r"cells must be int64 \[N\], but are torch.int32 \[3\]"):
        small().random_points(torch.arange(3, dtype=torch.int32), 0)
    with pytest.raises(InputError, match="the state must have the tensors"):
        small().load_state(small(resolution=8).state())
    assert UNSEEN > 0 > CARVED
