import math

import pytest
import torch
from torch import Tensor

from polyfield.errors import ShapeError
from polyfield.renderers.carve import carve, carve_reference
from polyfield.renderers.occupancy import OccupancyGrid

SIZE, FOCAL, AWAY, RADIUS = 100, 120.0, 4.0, 0.6


def views(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Cameras on a sphere about the origin, looking at it."""
    positions = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    positions = AWAY * torch.nn.functional.normalize(positions, dim=1)
    forward = -positions / AWAY
    up = torch.tensor([0.0, 0.0, 1.0]).expand(count, 3)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=1)
    poses = torch.stack([right, torch.linalg.cross(forward, right), forward, positions], 2)
    return poses, torch.full((count, 2), FOCAL), torch.full((count, 2), SIZE / 2)


def disc() -> Tensor:
    """What a camera sees of the ball: exactly a disc."""
    axis = torch.arange(SIZE) + 0.5 - SIZE / 2
    size = FOCAL * math.tan(math.asin(RADIUS / AWAY))
    # A pixel is filled when the disc touches any of it.
    return ((axis[:, None] ** 2 + axis**2).sqrt() < size + 0.75).float()


def box(levels: int = 1) -> tuple[Tensor, Tensor]:
    half = 1.5 * 2.0 ** torch.arange(levels)[:, None] * torch.tensor([1.0, 1.2, 1.0])
    return -half, half


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("threads", [1, 2])
def test_kernel_agrees_with_the_reference(levels: int, threads: int) -> None:
    torch.set_num_threads(threads)
    alphas = [
        disc().t(),
        torch.zeros(SIZE, SIZE, 4)[..., 3],
        disc()[10:70],
    ]  # any strides and sizes
    for chosen in ([0], [2, 0], [1]):
        arguments = *box(levels), 32, *views(len(chosen)), [alphas[i] for i in chosen]
        ours, truth = carve(*arguments), carve_reference(*arguments)
        # Cells whose picture ends within rounding of a pixel's edge may differ.
        assert (ours != truth).sum() <= 0.0005 * truth.numel()
        assert 0 < ours.sum() < ours.numel()


@pytest.mark.parametrize("function", [carve, carve_reference])
def test_the_object_is_kept_and_most_of_the_rest_is_not(function) -> None:
    n = 32
    low, high = box()
    kept = function(low, high, n, *views(30), [disc()] * 30)[0]
    axes = [(torch.arange(n) + 0.5) / n * (high - low)[0, a] + low[0, a] for a in range(3)]
    distance = torch.stack(torch.meshgrid(*axes, indexing="ij")).norm(dim=0)
    cell = (high - low)[0].norm() / n
    assert kept[distance < RADIUS + 0.5 * cell - 0.05].all()
    # A cell is carved when it clears the disc by its own size and a pixel's, here 0.04, in one of thirty views.
    assert not kept[distance > RADIUS + 2 * cell].any()


@pytest.mark.parametrize("function", [carve, carve_reference])
def test_what_no_view_judges_is_kept(function) -> None:
    pose = torch.eye(3, 4)[None]
    pose[0, 2, 3] = 0.1  # looks along +z, from inside the box
    lens = torch.full((1, 2), 50.0)
    kept = function(*box(), 16, pose, lens, lens, [torch.zeros(100, 100)])[0]
    assert kept[:, :, :8].all()  # behind the camera
    assert not kept[6:10, 6:10, 12:].any()  # in the middle of an empty picture
    assert kept[0, 0].all()  # outside the picture, or across its border


@pytest.mark.parametrize("function", [carve, carve_reference])
def test_one_filled_pixel_keeps_the_cells_on_its_ray(function) -> None:
    pose = torch.eye(3, 4)[None]
    pose[0, 2, 3] = -6.0
    lens = torch.full((1, 2), 50.0)
    alpha = torch.zeros(100, 100)
    alpha[50, 50] = 0.01
    kept = function(*box(), 16, pose, lens, lens, [alpha])[0]
    assert kept[8, 8].all()
    assert not kept[4, 4].any()


def test_grid_takes_the_hull() -> None:
    grid = OccupancyGrid((-1.5,) * 3, (1.5,) * 3, levels=2, resolution=32)

    class Cameras:
        world_from_camera, focal, center = views(20)

    grid.carve(Cameras(), (disc() for _ in range(20)))
    assert grid.occupied(torch.zeros(1, 3)).all()
    assert grid.occupied(torch.tensor([[0.5, 0.0, 0.0]])).all()
    assert not grid.occupied(torch.tensor([[1.2, 0.0, 0.0], [-1.4, 1.4, 0.0]])).any()


def test_messages() -> None:
    with pytest.raises(ShapeError, match=r"low and high must both be \[L, 3\]"):
        carve(torch.zeros(3), torch.ones(3), 8, *views(1), [disc()])
    with pytest.raises(ShapeError, match="wanted 2 alpha images, one for each camera, but got 1"):
        carve(*box(), 8, *views(2), [disc()])
    with pytest.raises(ShapeError, match=r"wanted 1 alpha images .* and there are more of them"):
        carve(*box(), 8, *views(1), [disc()] * 2)
    with pytest.raises(ShapeError, match=r"poses must be \[C, 3, 4\], focal and center \[C, 2\]"):
        carve(*box(), 8, *views(1)[:2], torch.zeros(2, 2), [disc()])
    for dtype in (torch.bool, torch.uint8, torch.int64):
        with pytest.raises(ShapeError, match=f"alpha must be of floats, but is {dtype}"):
            carve(*box(), 8, *views(1), [disc().to(dtype)])
