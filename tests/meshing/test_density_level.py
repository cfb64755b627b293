"""The density at which a surface lies: between what is empty and what is solid, where light ends."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from polyfield.errors import DataError
from polyfield.meshing.density_level import density_level
from polyfield.renderers.march import MarchSettings
from polyfield.renderers.occupancy import OccupancyGrid
from polyfield.renderers.trace import Rays, Traced, trace_by_turns
from polyfield.renderers.volume import VolumeConfig


class Ball:
    """A density that hangs on the distance from the origin only."""

    pointwise = True
    config = SimpleNamespace(features=1)

    def __init__(self, profile: Any) -> None:
        self.profile = profile

    def density(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return self.profile(points.norm(dim=1)), points[:, :1]

    def color(self, samples: Any, features: Tensor) -> Tensor:
        return torch.zeros(len(features), 3)


class Marcher:
    """What `density_level` needs of a renderer, for any function; in a cube of this half side."""

    def __init__(self, profile: Any, half: float = 1.0, steps: int = 512) -> None:
        low, high = (-half,) * 3, (half,) * 3
        self.field: Any = Ball(profile)
        self.config = VolumeConfig(low, high, resolution=8, steps=steps)
        self.grid = OccupancyGrid(low, high, levels=1, resolution=8)

    def trace(self, origins: Tensor, directions: Tensor, least: float) -> Traced:
        rays = Rays(origins, directions, 0.0, 1e9)
        return trace_by_turns(rays, self.grid, MarchSettings(self.config.step), self.field, least)


# What it is asked for, and no more.
Renderer: Any = Marcher


def two_valued(inside: float, outside: float, radius: float = 0.5) -> Any:
    return lambda r: torch.where(r < radius, inside, outside)


def rays(count: int = 300, half: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    aims = 1.6 * torch.rand(count, 3, generator=generator) - 0.8
    return half * (aims - 3 * directions), directions


def level_of(profile: Any, half: float = 1.0) -> float:
    return density_level(Renderer(profile, half), *rays(half=half))


@pytest.mark.parametrize("inside", [20.0, 40.0, 1000.0])
@pytest.mark.parametrize("outside", [0.0, 0.001, 0.03])
def test_of_two_densities_the_level_lies_between(inside: float, outside: float) -> None:
    """Strictly, so that a mesh has an inside and an outside."""
    level = level_of(two_valued(inside, outside))
    # What float32 makes of the numbers.
    low, high = (float(torch.tensor(value)) for value in (outside, inside))
    assert low < level < high


@pytest.mark.parametrize("scale", [0.125, 16.0])
def test_the_level_does_not_hang_on_the_unit_of_length(scale: float) -> None:
    """A scene that is twice as large and half as dense looks the same; a power of two changes no digit."""

    def profile(r: Tensor) -> Tensor:
        return 50 * torch.sigmoid((0.5 - r) * 25)

    plain = level_of(profile)
    found = level_of(lambda r: profile(r / scale) / scale, half=scale)
    # The levels tried are powers of e, rounded in float32.
    assert found == pytest.approx(plain / scale, rel=1e-5)


@pytest.mark.parametrize("width", [0.005, 0.02, 0.05])
@pytest.mark.parametrize("inside", [50.0, 300.0])
def test_the_level_is_that_where_light_ends(width: float, inside: float) -> None:
    """Straight towards the middle of a soft ball: where the depth is ln 2, to a step of the march."""

    def profile(r: Tensor) -> Tensor:
        return inside * torch.sigmoid((0.5 - r) / width)

    directions = rays()[1]
    renderer = Renderer(profile)
    level = density_level(renderer, -3 * directions, directions)
    # The integral of the profile from outside to r, in closed form; and its inverse.
    met = 0.5 - width * math.log(math.expm1(math.log(2) / (inside * width)))
    reached = 0.5 - width * math.log(level / (inside - level))
    # Samples are a step apart, and so are the levels: 96 of them over the densities that are met.
    assert abs(reached - met) < 1.5 * renderer.config.step


def test_fog_that_pictures_do_not_show_is_outside() -> None:
    """Fog of a tenth of the depth that counts as empty, before a solid and around it."""

    def profile(r: Tensor) -> Tensor:
        return torch.where(r < 0.5, 200.0, torch.where(r < 0.8, 0.05, 0.0))

    level = level_of(profile)
    assert 0.05 < level < 200


def test_haze_and_borders_do_not_count() -> None:
    """Rays that see a tenth to nine tenths: with them and without, the level is the same."""

    def profile(r: Tensor) -> Tensor:
        return 60 * torch.sigmoid((0.4 - r) * 30)

    renderer = Renderer(profile)
    origins, directions = rays()
    seen = renderer.trace(origins, directions, renderer.config.min_transmittance)
    depth = seen.sigma * (seen.samples.t1 - seen.samples.t0)
    total = torch.zeros(len(origins)).index_add_(0, seen.samples.ray_ids.long(), depth)
    opacity = -torch.expm1(-total)
    clear = (opacity > 0.9) | (opacity < 0.1)
    assert int((~clear).sum()) > 5
    assert density_level(renderer, origins, directions) == density_level(
        renderer,
        origins[clear],
        directions[clear],
    )


@pytest.mark.parametrize("inside", [0.0, 0.5])
def test_a_field_that_is_nowhere_opaque_has_no_level(inside: float) -> None:
    with pytest.raises(DataError, match=r"nowhere opaque, .* Give a level\.$"):
        level_of(two_valued(inside, 0.0))


def test_rays_that_pass_by_tell_of_no_surface() -> None:
    origins, directions = rays()
    with pytest.raises(DataError, match="nowhere opaque"):
        density_level(Renderer(two_valued(99.0, 0.0)), origins - 9 * directions, -directions)
