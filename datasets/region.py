"""Which part of space a scene shows: a box that deserves the finest detail, and how near and far it goes.

Decided from what the format declares, from known surface points and from where the cameras look, and always with a
sentence that says why. Nothing here moves or scales the world.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from polyfield.datasets.cameras import Cameras
from polyfield.datasets.posed import Posed

__all__ = ["Region", "choose_region", "focus", "forward_facing"]

_SYNTHETIC_HALF = 1.5  # NeRF-Synthetic objects lie in [-1.5, 1.5]^3
_MOST = 0.85  # share of the points that the region holds; the others are mostly background
_LEAST_SEEN, _MOST_SEEN = 0.5, 2.0  # the region's width over what a camera sees at its distance
_BEFORE, _BEHIND = (
    0.75,
    2.0,
)  # room before the nearest point and behind the farthest: smooth surfaces have no points
_LEAST = 1e-6  # half the width of a box that would else be empty
_ALIKE = 0.9  # mean of unit view directions, as a length: all within about 25 degrees of each other


@dataclass(frozen=True)
class Region:
    """Where a scene is.

    Attributes:
        box: Lowest and highest corner of the region of interest.
        near: Distance from any camera before which there is nothing.
        far: Distance from any camera after which nothing needs to be told apart.
        unbounded: Whether there is something to see outside the box.
        forward_facing: Whether all cameras look the same way.
        why: How this was chosen: a sentence.
    """

    box: Float64[Tensor, "2 3"]
    near: float
    far: float
    unbounded: bool
    forward_facing: bool
    why: str


def choose_region(posed: Posed, has_alpha: bool) -> Region:
    """Choose the region of a scene.

    Args:
        posed: The scene as its format describes it.
        has_alpha: Whether the images have a transparent background, so that there is nothing outside the object.
    """
    ahead = forward_facing(posed.cameras)
    if posed.cube is not None:
        return _declared(posed, has_alpha, ahead)
    if posed.points is not None or posed.bounds is not None:
        return _measured(posed, has_alpha, ahead)
    return _looked_at(posed, has_alpha, ahead)


def focus(cameras: Cameras) -> Float64[Tensor, " 3"]:
    """Find the point that is closest to all view axes, in the least squares sense.

    Where the axes are parallel there is none; then the answer lies near the cameras' mean position.
    """
    forward, positions = cameras.forward, cameras.positions
    across = torch.eye(3, dtype=torch.float64) - forward.unsqueeze(2) * forward.unsqueeze(1)
    # A little of the identity about the mean keeps parallel axes solvable and moves nothing else that matters.
    mean = positions.mean(0)
    matrix = across.mean(0) + 1e-9 * torch.eye(3, dtype=torch.float64)
    side = (across @ (positions - mean).unsqueeze(2)).mean(0)
    offset: Tensor = torch.linalg.solve(matrix, side)
    return mean + offset.squeeze(1)


def forward_facing(cameras: Cameras) -> bool:
    """Say whether all cameras look the same way, so that no two could see a thing from opposite sides."""
    return len(cameras) > 1 and bool(cameras.forward.mean(0).norm() > _ALIKE)


def _declared(posed: Posed, has_alpha: bool, ahead: bool) -> Region:
    """Take the cube that the file declares."""
    assert posed.cube is not None
    box = torch.tensor(posed.cube, dtype=torch.float64)
    center, half = box.mean(0), (box[1] - box[0]) / 2
    whole = torch.stack([center - posed.cube_reach * half, center + posed.cube_reach * half])
    unbounded = posed.cube_reach > 1 or not has_alpha
    side = float(2 * half.max())
    why = (
        f"The region is the cube that transforms.json declares, {side:.3g} wide about {_place(center)}; the scene"
        f" goes on to {posed.cube_reach:g} times that (aabb_scale)."
    )
    return Region(
        box, _near(posed.cameras, box), _farthest(posed.cameras, whole), unbounded, ahead, why
    )


@dataclass(frozen=True)
class _Subject:
    """What the cameras are about: a point, half the width that they see there, and words for it."""

    center: Float64[Tensor, " 3"]
    half: float
    about: str


def _subject(posed: Posed, ahead: bool) -> _Subject:
    """Find what the cameras look at."""
    cameras = posed.cameras
    # Half the width that a camera sees at depth 1, over its shorter side.
    view = float((cameras.size.double() / cameras.focal).amin(1).median()) / 2
    measured = posed.points is not None or posed.bounds is not None
    if ahead and measured:
        center = _middle_ahead(posed)
        depth = float(((center - cameras.positions) * cameras.forward).sum(1).median())
        return _Subject(
            center, view * depth, "around the middle of what the cameras have before them"
        )
    center = focus(cameras)
    before = ((center - cameras.positions) * cameras.forward).sum(1)
    spread = float((cameras.positions - cameras.positions.mean(0)).norm(dim=1).max())
    if float(before.median()) > 0.1 * spread:  # not so for cameras that look away from each other
        distance = float((cameras.positions - center).norm(dim=1).median())
        return _Subject(center, view * distance, "around the point the cameras look at")
    reach = 2 * spread if posed.bounds is None else float(posed.bounds.median(0).values.mean())
    return _Subject(
        cameras.positions.mean(0), reach or 1.0, "around the cameras, which look outwards"
    )


def _looked_at(posed: Posed, has_alpha: bool, ahead: bool) -> Region:
    """Take what all cameras see about the point they look at."""
    cameras, subject = posed.cameras, _subject(posed, ahead)
    center, half = subject.center, max(subject.half, _LEAST)
    if has_alpha and float(center.norm()) < 0.2 and 1.0 < half < 2.0:
        box = torch.tensor([[-_SYNTHETIC_HALF] * 3, [_SYNTHETIC_HALF] * 3], dtype=torch.float64)
        why = (
            f"The region is the box [-1.5, 1.5]^3 of synthetic scenes: the background is transparent, and the cameras"
            f" see about {2 * half:.3g} around the origin."
        )
    else:
        box = torch.stack([center - half, center + half])
        background = "transparent" if has_alpha else "part of the scene"
        why = (
            f"The region is the box {subject.about}, as wide as they see there, {2 * half:.3g} about"
            f" {_place(center)}; the background is {background}."
        )
    if has_alpha:
        return Region(box, _gap(cameras, box), _farthest(cameras, box), False, ahead, why)
    far = 100 * max(float((cameras.positions - center).norm(dim=1).max()), half)
    return Region(box, _near(cameras, box), far, True, ahead, why)


def _measured(posed: Posed, has_alpha: bool, ahead: bool) -> Region:
    """Take what known points and depths say, about the point that the cameras look at."""
    cameras, points, subject = posed.cameras, posed.points, _subject(posed, ahead)
    center, half, about = subject.center, subject.half, subject.about
    if points is not None:
        # Most points, but no more than a few times what the cameras see there: the rest is background.
        reach = float((points - center).abs().amax(1).quantile(1.0 if has_alpha else _MOST))
        half = min(max(reach, _LEAST_SEEN * half), _MOST_SEEN * half)
        about = f"{about} that holds most of the {len(points)} points"
    half = max(half, _LEAST)
    box = torch.stack([center - half, center + half])
    facing = "Cameras face forward. " if ahead else ""
    why = f"{facing}The region is the box {about}, {2 * half:.3g} wide about {_place(center)}."
    if has_alpha:
        return Region(box, _gap(cameras, box), _farthest(cameras, box), False, ahead, why)
    near, far, source = _near(cameras, box), 100 * half, "guessed"
    if posed.bounds is not None:
        near = _BEFORE * float(posed.bounds[:, 0].min())
        far = _BEHIND * float(posed.bounds[:, 1].quantile(0.9))
        source = "from the depths of points"
    why += f" Near {near:.3g} and far {far:.3g} are {source}; the background is part of the scene."
    return Region(box, near, max(far, 2 * near), True, ahead, why)


def _middle_ahead(posed: Posed) -> Float64[Tensor, " 3"]:
    """Find the middle of what cameras see that all look the same way; their axes hardly meet anywhere."""
    if posed.points is not None:
        return posed.points.median(0).values
    assert posed.bounds is not None
    near, far = posed.bounds.median(0).values.tolist()
    # Harmonic: as many pixels of parallax lie before it as behind it.
    depth = 2 / (1 / near + 1 / far)
    places: Tensor = posed.cameras.positions + depth * posed.cameras.forward
    return places.mean(0)


def _gap(cameras: Cameras, box: Float64[Tensor, "2 3"]) -> float:
    """Smallest distance from a camera to the box; 0 where one stands inside."""
    outside = torch.maximum(box[0] - cameras.positions, cameras.positions - box[1]).clamp(min=0)
    return float(outside.norm(dim=1).min())


def _near(cameras: Cameras, box: Float64[Tensor, "2 3"]) -> float:
    """A tenth of the way from the nearest camera to the middle of the box: a guess where no points are known."""
    return 0.1 * float((cameras.positions - box.mean(0)).norm(dim=1).min())


def _farthest(cameras: Cameras, box: Float64[Tensor, "2 3"]) -> float:
    """Largest distance from a camera to a corner of the box."""
    pick = torch.tensor([[(i >> axis) & 1 for axis in range(3)] for i in range(8)])
    corners = box[pick, torch.arange(3)]
    return float(torch.cdist(cameras.positions, corners).max())


def _place(point: Float64[Tensor, " 3"]) -> str:
    return "(" + ", ".join(f"{value + 0.0:.3g}" for value in point.tolist()) + ")"
