"""Surfaces on lattices: slabs are seams to nobody, empty parts are not asked, and memory is minded."""

import math
import re

import pytest
import torch
from torch import Tensor

from polyfield import native
from polyfield.errors import DataError, InputError
from polyfield.meshing import lattice as module
from polyfield.meshing.lattice import Lattice, surface_in
from polyfield.meshing.marching_cubes import LatticeSurface, marching_cubes

native_alone = pytest.mark.skipif(
    not native.available(),
    reason="the reference does all work at the end and counts no vertices before",
)

CUBE = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


def ball(points: Tensor) -> Tensor:
    """Of radius 0.8; sums and products only, which are the same however many points are asked."""
    x, y, z = points.unbind(1)
    return 0.64 - (x * x + y * y + z * z)


def triangles(surface: LatticeSurface) -> list[tuple[tuple[float, ...], ...]]:
    """By where their corners are, beginning with the least of them."""
    found = []
    for corners in surface.vertices[surface.faces].tolist():
        places = [tuple(corner) for corner in corners]
        first = places.index(min(places))
        found.append(tuple(places[first:] + places[:first]))
    return sorted(found)


def values_on(lattice: Lattice) -> Tensor:
    axes = (lattice.coordinates(axis).float() for axis in range(3))
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    return ball(points.view(-1, 3)).view(lattice.shape)


@pytest.mark.parametrize(
    ("high", "resolution", "shape"),
    [
        ((2.0, 1.0, 1.0), 4, (5, 3, 3)),
        ((1.0, 1.0, 1.0), 2, (3, 3, 3)),
        ((0.3, 0.1, 0.2), 3, (4, 2, 3)),  # multiples but for rounding
        ((1.0, 0.26, 1e-9), 4, (5, 3, 2)),
        ((1e-30, 1e-30, 2e-30), 10, (6, 6, 11)),
    ],
)
def test_a_lattice_covers_its_box_and_hardly_more(high, resolution: int, shape) -> None:
    lattice = Lattice((0.0, 0.0, 0.0), high, resolution)
    assert lattice.shape == shape
    assert lattice.step == max(high) / resolution
    for axis in range(3):
        coordinates = lattice.coordinates(axis)
        assert len(coordinates) == shape[axis]
        # To a billionth of a side, which is no further step.
        assert high[axis] * (1 - 1e-8) <= float(coordinates[-1]) < high[axis] + lattice.step
        assert torch.allclose(coordinates.diff(), torch.tensor(lattice.step).double(), rtol=1e-9)


def test_place_is_where_the_points_lie() -> None:
    lattice = Lattice((-3.0, 100.0, 1e6), (5.0, 104.0, 1e6 + 1.0), 16)
    places = [lattice.coordinates(axis) for axis in range(3)]
    indices = torch.tensor([[0, 0, 0], [16, 8, 2], [3, 1, 2]])
    expected = torch.stack([places[axis][indices[:, axis]] for axis in range(3)], 1)
    assert torch.equal(lattice.place(indices.float()), expected)


@pytest.mark.parametrize("slab", [1, 700, 5000, 1 << 21])
@pytest.mark.parametrize("chunk", [97, 1 << 17])
def test_slabs_give_what_the_whole_gives(
    monkeypatch: pytest.MonkeyPatch, slab: int, chunk: int
) -> None:
    monkeypatch.setattr(module, "_SLAB", slab)
    monkeypatch.setattr(module, "_CHUNK", chunk)
    lattice = Lattice((-1.0, -0.9, -1.0), (1.0, 0.9, 0.4), 16)  # cut off above
    told: list[tuple[int, int]] = []
    surface, asked = surface_in(
        lattice, ball, 0.05, on_layers=lambda done, count: told.append((done, count))
    )
    whole = marching_cubes(values_on(lattice), 0.05)
    assert len(surface.vertices) == len(whole.vertices)
    assert triangles(surface) == triangles(whole)
    assert asked == math.prod(lattice.shape)
    layers = max(slab // (lattice.shape[1] * lattice.shape[2]), 1)
    assert [count for _, count in told] == [17] * math.ceil(17 / layers)
    assert [done for done, _ in told] == [min(k, 17) for k in range(layers, 17 + layers, layers)]


def test_inside_is_below_where_that_is_said() -> None:
    lattice = Lattice(*CUBE, 12)
    above, _ = surface_in(lattice, ball, 0.1)
    below, _ = surface_in(lattice, lambda points: -ball(points), -0.1, below=True)
    assert triangles(above) == triangles(below)
    a, b, c = above.vertices.double()[above.faces].unbind(1)
    assert float((a * torch.linalg.cross(b, c)).sum()) > 0  # faces look outwards


def test_what_is_not_wanted_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLAB", 2000)
    lattice, calls = Lattice(*CUBE, 16), list[Tensor]()
    near = values_on(lattice) > -0.4  # the ball, and around it farther than a cell

    def values(points: Tensor) -> Tensor:
        calls.append(points)
        return ball(points).clamp(min=0.0)  # as a density is

    some, asked = surface_in(lattice, values, 0.1, wanted=lambda layers: near[layers])
    points = torch.cat(calls)
    assert asked == len(points) == int(near.sum()) < near.numel()
    assert bool((ball(points) > -0.4).all())
    every, _ = surface_in(lattice, values, 0.1)
    assert triangles(some) == triangles(every)
    nothing, asked = surface_in(
        lattice, values, 0.1, wanted=lambda layers: torch.zeros_like(near[layers])
    )
    assert (len(nothing.faces), asked) == (0, 0)


def test_points_that_are_asked_are_float32_and_those_of_the_lattice() -> None:
    lattice, calls = Lattice((0.0, 10.0, -5.0), (1.0, 12.0, -4.5), 6), list[Tensor]()

    def values(points: Tensor) -> Tensor:
        calls.append(points)
        return points.sum(1)

    surface_in(lattice, values, 1e9)
    points = torch.cat(calls)
    assert points.dtype == torch.float32
    expected = torch.cartesian_prod(*(lattice.coordinates(axis).float() for axis in range(3)))
    assert torch.equal(points, expected)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    def values(points: Tensor) -> Tensor:
        return torch.where(points[:, 0] > 0.4, bad, 1.0)

    with pytest.raises(DataError, match="finite"):
        surface_in(Lattice(*CUBE, 8), values, 0.0)


@native_alone
@pytest.mark.parametrize("slab", [3000, 1 << 21])
@pytest.mark.parametrize("free", [1 << 20, 2 << 20])
def test_a_surface_beyond_memory_names_a_resolution_that_fits(
    monkeypatch: pytest.MonkeyPatch, slab: int, free: int
) -> None:
    monkeypatch.setattr(module, "_SLAB", slab)
    monkeypatch.setattr(module, "free_memory", lambda: free)
    with pytest.raises(InputError, match="At a resolution of 64 this surface takes more") as caught:
        surface_in(Lattice(*CUBE, 64), ball, 0.0)
    sentence = str(caught.value)
    assert "\n" not in sentence
    found = re.search(r"(\d+) would fit\.$", sentence)
    assert found is not None
    fitting = int(found[1])
    assert 16 <= fitting < 64
    surface, _ = surface_in(Lattice(*CUBE, fitting), ball, 0.0)
    assert len(surface.vertices) * module._BYTES_OF_VERTEX <= free


@native_alone
def test_a_surface_beyond_memory_is_refused_before_it_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_SLAB", 1)
    monkeypatch.setattr(module, "free_memory", lambda: 1 << 18)
    layers = list[int]()
    with pytest.raises(InputError, match="would fit"):
        surface_in(Lattice(*CUBE, 32), ball, 0.0, on_layers=lambda done, _: layers.append(done))
    assert 0 < len(layers) < 30


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ((0.0, 0.0, 0.0), (1.0, 0.0, 1.0)),
        ((0.0, 2.0, 0.0), (1.0, 1.0, 1.0)),
        ((0.0, 0.0, math.nan), (1.0, 1.0, 1.0)),
        ((-math.inf, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ],
)
def test_no_boxes_are_refused(low, high) -> None:
    with pytest.raises(InputError, match="low < high along each axis, in finite numbers"):
        Lattice(low, high, 8)


@pytest.mark.parametrize("resolution", [-1, 0, 1, 4097])
def test_no_resolutions_are_refused(resolution: int) -> None:
    with pytest.raises(InputError, match=f"whole number from 2 to 4096, but is {resolution}"):
        Lattice(*CUBE, resolution)
