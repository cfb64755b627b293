"""How sharply the cameras of a capture see its domain: what none of them can tell apart, no grid need hold.

Cells that are much smaller than a pixel are met by few rays each, and learn from as few: a hash grid of lego at a
quarter of its size has 32.6 dB after a minute with cells of a fifth of a pixel, and 33.3 with half a pixel.
"""

from collections.abc import Sequence
from typing import Any

import torch

from polyfield.datasets.cameras import Cameras
from polyfield.fields.domain import build_domain

__all__ = ["pixels_across"]

_MOST = (
    0.9  # share of the views that see no more sharply: a few may come much nearer than the others
)
_NEAREST = 1e-3  # of a camera, in sides of the domain: in the middle it would see without end


def pixels_across(cameras: Cameras, views: Sequence[int], domain: dict[str, Any]) -> float | None:
    """Count the pixels that would span a domain's unit cube as large as its middle looks.

    Args:
        cameras: Of a capture.
        views: Which of them count.
        domain: JSON for `build_domain`.

    Returns:
        What the sharper views have, save the sharpest tenth; None without views.

    Example:
        >>> from polyfield.datasets.builtin import builtin_scene
        >>> cube = {"kind": "box", "low": [-1.0] * 3, "high": [1.0] * 3}
        >>> scene = builtin_scene(views=8, size=40)
        >>> many = pixels_across(scene.cameras, scene.split["train"], cube)
        >>> twice = builtin_scene(views=8, size=80)
        >>> round(pixels_across(twice.cameras, twice.split["train"], cube) / many, 2)
        2.0
    """
    if not views:
        return None
    place = build_domain(domain)
    middle = torch.full((3,), 0.5, dtype=torch.float64)
    beside = 1e-3 * torch.eye(3, dtype=torch.float64)
    # How fast the world goes by at the middle of the cube, along each of its axes.
    sides = (place.to_world(middle + beside) - place.to_world(middle - beside)).norm(dim=1) / 2e-3
    side = sides.amax()
    rows = torch.tensor(list(views))
    away = (cameras.positions[rows].double() - place.to_world(middle[None])).norm(dim=1)
    focal = cameras.focal[rows].double().amax(1)
    return float((side * focal / away.clamp_min(_NEAREST * side)).quantile(_MOST))
