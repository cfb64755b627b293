"""Where a student looks at its teacher from: near the cameras of the teacher's capture, or from all around."""

import math

import torch
from jaxtyping import Float, Float64, Int64
from torch import Generator, Tensor

from polyfield.datasets.cameras import Cameras
from polyfield.datasets.lenses import Lens
from polyfield.fields.model import Model
from polyfield.fields.ops.directions import even_directions
from polyfield.renderers.camera_path import look_at
from polyfield.renderers.volume import VolumeRenderer
from polyfield.training.capture import captured_cameras, captured_views

__all__ = ["CameraViews", "around", "viewpoints"]

_SHIFT = 0.25  # of a camera, in distances to its nearest neighbour
_VIEWS, _SIDE = (
    200,
    256,
)  # cameras around a field that has no capture, and their pixels along a side
_VIEW_ANGLE, _DISTANCE = 40.0, 3.0  # degrees, and half diagonals of the box: all of it is in view


class CameraViews:
    """Rays through the pixels of cameras, from near where these stand.

    Args:
        cameras: Which.
        views: Numbers of those that are looked from.
        shift: How far beside a camera a ray begins: standard deviation, in distances to the nearest other camera.
    """

    def __init__(self, cameras: Cameras, views: list[int], shift: float) -> None:
        self._cameras = cameras
        self._views = torch.tensor(views, dtype=torch.int64)
        self._reach = (shift * _gaps(cameras.positions[self._views])).float()

    def __len__(self) -> int:
        return len(self._views)

    def choose(
        self, count: int, generator: Generator
    ) -> tuple[Int64[Tensor, " R"], Float[Tensor, "R 2"]]:
        """Draw cameras, all alike, counted from 0, and places in their pictures, from 0 to below 1 along each side."""
        chosen = torch.randint(len(self._views), (count,), generator=generator)
        return chosen, torch.rand(count, 2, generator=generator)

    def through(
        self, chosen: Int64[Tensor, " R"], places: Float[Tensor, "R 2"], generator: Generator
    ) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
        """Make rays through the pixels at places of cameras: origins, and unit directions."""
        views = self._views.index_select(0, chosen)
        # Centres of pixels, of which cameras with distortion have a table.
        pixels = (places * self._cameras.size[views]).floor()
        origins, directions = self._cameras.rays(views, pixels.float() + 0.5)
        beside = torch.randn(len(views), 3, generator=generator)
        reach = self._reach.index_select(0, chosen)[:, None]
        return origins + reach * beside, directions


def viewpoints(teacher: Model, cameras: tuple[Cameras, list[int]] | None = None) -> CameraViews:
    """Choose where to look at a teacher from.

    Args:
        teacher: A radiance model.
        cameras: Real ones, and which of them: then just these. None: near the training views of the teacher's capture,
            or where it has none, from a sphere around its box.
    """
    if cameras is not None:
        return CameraViews(*cameras, 0.0)
    views = captured_views(teacher, "train")
    if not views:
        made = around(teacher)
        return CameraViews(made, list(range(len(made))), _SHIFT)
    return CameraViews(captured_cameras(teacher), views, _SHIFT)


def around(teacher: Model) -> Cameras:
    """Make cameras on a sphere around a teacher's box, evenly, all looking at its middle."""
    config = VolumeRenderer(teacher).config
    low, high = (torch.tensor(c, dtype=torch.float64) for c in (config.low, config.high))
    middle, reach = (low + high) / 2, float((high - low).norm()) / 2
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    places = middle + _DISTANCE * reach * even_directions(_VIEWS)
    focal = _SIDE / 2 / math.tan(math.radians(_VIEW_ANGLE / 2))
    pair = torch.ones(_VIEWS, 2, dtype=torch.float64)
    return Cameras(
        torch.stack([look_at(place, middle, up) for place in places]),
        focal * pair,
        _SIDE / 2 * pair,
        torch.full((_VIEWS, 2), _SIDE),
        (Lens(),) * _VIEWS,
    )


def _gaps(positions: Float64[Tensor, "C 3"]) -> Float64[Tensor, " C"]:
    """Distance of each place to the nearest other one; of a single place 0."""
    if len(positions) < 2:
        return positions.new_zeros(len(positions))
    apart = torch.cdist(positions, positions)
    apart.fill_diagonal_(math.inf)
    return apart.amin(1)
