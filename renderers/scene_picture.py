"""A picture of where the cameras of a scene stand, what they look at and how large its box is.

Three views without perspective, along the axes of the world: from above (x, y), from the front (x, z), from the side
(y, z). It shows at a glance what goes wrong most often: mirrored axes, cameras that look outwards, a box elsewhere.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from polyfield.datasets.cameras import Cameras

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

__all__ = ["scene_picture"]

_PANEL = 480  # pixels
_MARGIN = 36
_COLORS = {"train": (40, 90, 200), "val": (210, 140, 20), "test": (200, 40, 60)}
_INK, _FAINT, _BOX, _PAPER = (30, 30, 30), (150, 150, 150), (40, 140, 60), (255, 255, 255)
_VIEWS = (
    ("above: x right, y up", 0, 1),
    ("front: x right, z up", 0, 2),
    ("side: y right, z up", 1, 2),
)
_POINTS = 4000  # of the known surface points, enough to see the shape


def scene_picture(
    cameras: Cameras,
    box: Float64[Tensor, "2 3"],
    split: Mapping[str, Sequence[int]],
    points: Float[Tensor, "P 3"] | None = None,
) -> "Image":
    """Draw the cameras, the box and some surface points from three sides.

    Args:
        cameras: At least one.
        box: Lowest and highest corner, in world units.
        split: Camera numbers of "train", "val" and "test", which have a colour each.
        points: Surface points in world units, or None.

    Returns:
        A PIL image, three square panels side by side.
    """
    from PIL import Image, ImageDraw

    corners = torch.cat([cameras.positions, box.double()])
    low, high = corners.amin(0), corners.amax(0)
    middle, reach = (low + high) / 2, float((high - low).max()) / 2 or 1.0
    picture = Image.new("RGB", (_PANEL * len(_VIEWS), _PANEL), _PAPER)
    pen = ImageDraw.Draw(picture)
    for number, (title, right, up) in enumerate(_VIEWS):
        panel = _Panel(pen, number * _PANEL, middle, reach * 1.15, right, up)
        if points is not None and len(points):
            panel.dots(points[:: max(1, math.ceil(len(points) / _POINTS))].double())
        panel.box(box.double())
        panel.axes(reach / 4)
        for name, views in split.items():
            for view in views:
                panel.camera(cameras, view, reach / 8, _COLORS.get(name, _INK))
        panel.text(title)
    for row, (name, views) in enumerate((n, v) for n, v in split.items() if v):
        color = _COLORS.get(name, _INK)
        pen.text((8, 24 + 14 * row), f"{len(views)} {name}", fill=color)
    return picture


class _Panel:
    """One view without perspective."""

    def __init__(
        self, pen: "ImageDraw", x: int, middle: Tensor, reach: float, right: int, up: int
    ) -> None:
        self._pen, self._x, self._right, self._up = pen, x, right, up
        self._middle, self._scale = middle, (_PANEL / 2 - _MARGIN / 2) / reach

    def _at(self, point: Tensor) -> tuple[float, float]:
        across, along = ((point - self._middle) * self._scale)[[self._right, self._up]].tolist()
        half = _PANEL / 2
        # what lies outside is drawn at the border, so that it can be seen that something is there
        inside = (max(-half, min(half - 1, v)) for v in (across, -along))
        x, y = inside
        return self._x + half + x, half + y

    def dots(self, points: Tensor) -> None:
        limit = _PANEL / 2 - 1
        flat = ((points - self._middle) * self._scale)[:, [self._right, self._up]]
        seen = flat[(flat.abs() < limit).all(1)]
        half = _PANEL / 2
        self._pen.point([(self._x + half + x, half - y) for x, y in seen.tolist()], fill=_FAINT)

    def box(self, box: Tensor) -> None:
        (x0, y1), (x1, y0) = self._at(box[0]), self._at(box[1])
        self._pen.rectangle((x0, y0, x1, y1), outline=_BOX, width=2)

    def axes(self, length: float) -> None:
        origin = torch.zeros(3, dtype=torch.float64)
        for axis, name in ((self._right, "xyz"[self._right]), (self._up, "xyz"[self._up])):
            tip = origin.clone()
            tip[axis] = length
            self._pen.line((*self._at(origin), *self._at(tip)), fill=_INK, width=1)
            self._pen.text(self._at(tip), name, fill=_INK)

    def camera(
        self, cameras: Cameras, view: int, length: float, color: tuple[int, int, int]
    ) -> None:
        pose = cameras.world_from_camera[view]
        start = self._at(pose[:, 3])
        width, height = (float(v) for v in cameras.size[view])
        fx, fy = (float(v) for v in cameras.focal[view])
        for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            corner = torch.tensor([x * width / 2 / fx, y * height / 2 / fy, 1.0]).double()
            end = pose[:, :3] @ (corner * length) + pose[:, 3]
            self._pen.line((*start, *self._at(end)), fill=color, width=1)
        left, top = start
        self._pen.ellipse((left - 2, top - 2, left + 2, top + 2), fill=color)

    def text(self, words: str) -> None:
        self._pen.text((self._x + 8, 8), words, fill=_INK)
        self._pen.line((self._x, 0, self._x, _PANEL), fill=_FAINT)
