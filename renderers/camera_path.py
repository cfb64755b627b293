"""Camera paths: the cameras of a video, made from those that took the photographs.

orbit: once around what the cameras look at, at their mean distance and elevation. spiral: for forward-facing captures
a spiral in front of the scene, for captures from all around two turns that rise and sink. test: the held-out views
themselves. Or a file of keyframes (`polyfield.renderers.camera_file`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float64
from torch import Tensor

from polyfield.datasets.cameras import Cameras
from polyfield.datasets.lenses import Lens
from polyfield.errors import InputError, nearest
from polyfield.renderers.camera_file import interpolate, read_camera_file

__all__ = [
    "CameraPath",
    "FrameSize",
    "camera_path",
    "focus_of",
    "look_at",
    "orbit",
    "ring",
    "spiral",
]

FRAMES = 120
FPS = 30
_RING, _RING_SIDE = 8, 800  # cameras, and their pixels along a side
_RING_VIEW, _RING_RISE = 40.0, 25.0  # degrees: their view, and how far above the middle they stand


@dataclass(frozen=True)
class FrameSize:
    """Size of the frames in pixels; what is None follows from the photographs."""

    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class CameraPath:
    """The cameras of the frames, in order, and how fast they follow each other."""

    cameras: Cameras
    fps: int


def camera_path(
    path: str,
    capture: Cameras,
    *,
    test: Sequence[int] = (),
    target: Sequence[float] | None = None,
    size: FrameSize = FrameSize(),
    fps: int | None = None,
    frames: int | None = None,
) -> CameraPath:
    """Make the cameras of a path.

    Args:
        path: "orbit", "spiral", "test" or the name of a JSON file.
        capture: The cameras that took the photographs, at least one.
        test: Which of them are held out.
        target: Middle of the scene in world units, taken where the cameras do not tell what they look at.
        size: Of the frames.
        fps: Frames a second; None: the file's, or 30.
        frames: How many; None: the file's, or 120. The test path has one for each view.

    Raises:
        InputError: An unknown path, no test views, or a broken file.
    """
    if path == "test":
        if not test:
            raise InputError("There are no test views to render; choose --path orbit or spiral.")
        return CameraPath(_fitted(capture.select(test), size), fps or FPS)
    if path in ("orbit", "spiral"):
        make = orbit if path == "orbit" else spiral
        poses = make(capture.world_from_camera, frames or FRAMES, target)
        return CameraPath(_pinholes(poses, [None] * len(poses), capture, size), fps or FPS)
    if not path.endswith(".json"):
        raise InputError(
            f"There is no camera path {path!r}, and it is no .json file."
            f"{nearest(path, ('orbit', 'spiral', 'test'))}"
        )
    file = read_camera_file(Path(path))
    poses, zooms = interpolate(file, file.frame_times(frames))
    if size == FrameSize():
        size = FrameSize(file.width, file.height)
    return CameraPath(_pinholes(poses, zooms, capture, size), fps or file.fps)


def look_at(
    position: Float64[Tensor, "3"], target: Float64[Tensor, "3"], up: Float64[Tensor, "3"]
) -> Float64[Tensor, "3 4"]:
    """Place a camera so that it looks at a point, its top towards `up`.

    Where it looks straight up or down, the top is some direction across.
    """
    forward = _unit(target - position)
    right = torch.linalg.cross(forward, up)
    if float(right.norm()) < 1e-6 * float(up.norm()):
        other = torch.zeros(3, dtype=torch.float64)
        other[int(forward.abs().argmin())] = 1.0
        right = torch.linalg.cross(forward, other)
    right = _unit(right)
    down = torch.linalg.cross(forward, right)
    return torch.stack([right, down, forward, position], dim=1)


def focus_of(
    poses: Float64[Tensor, "C 3 4"], target: Sequence[float] | None = None
) -> Float64[Tensor, "3"]:
    """Find the point nearest to all optical axes: what the cameras look at.

    Where the axes are nearly parallel, or the point lies behind the cameras, that says nothing: then the point of the
    mean axis that is nearest to `target`, or without one, at twice the cameras' spread.
    """
    positions, forward = poses[:, :, 3], poses[:, :, 2]
    across = torch.eye(3, dtype=torch.float64) - forward[:, :, None] * forward[:, None, :]
    matrix = across.mean(0)
    # Its smallest eigenvalue is the mean squared sine of the axes to their common direction: 0.003 is 3 degrees.
    if float(torch.linalg.eigvalsh(matrix)[0]) > 0.003:
        point = torch.linalg.solve(matrix, (across @ positions[:, :, None]).mean(0)[:, 0])
        ahead = ((point - positions) * forward).sum(1) > 0
        if float(ahead.double().mean()) > 0.5:
            return torch.as_tensor(point)
    middle, axis = positions.mean(0), _mean_direction(forward)
    spread = float((positions - middle).norm(dim=1).max())
    distance = 2 * spread or 1.0
    if target is not None:
        along = float((torch.tensor(target, dtype=torch.float64) - middle) @ axis)
        distance = along if along > 0 else distance
    return middle + distance * axis


def orbit(
    poses: Float64[Tensor, "C 3 4"], frames: int, target: Sequence[float] | None = None
) -> Float64[Tensor, "F 3 4"]:
    """Circle once around the focus, beginning near the first camera; the frame after the last would be the first.

    Args:
        poses: The capture's `world_from_camera`.
        frames: How many.
        target: See `focus_of`.
    """
    focus, up, distances, elevations = _around(poses, target)
    distance, elevation = float(distances.mean()), float(elevations.mean())
    turns = torch.arange(frames, dtype=torch.float64) * (2 * math.pi / frames)
    return _circling(poses, focus, up, turns, distance, torch.full_like(turns, elevation))


def spiral(
    poses: Float64[Tensor, "C 3 4"], frames: int, target: Sequence[float] | None = None
) -> Float64[Tensor, "F 3 4"]:
    """Spiral twice within the range of the capture, ending where it began. Arguments as of `orbit`."""
    turns = torch.arange(frames, dtype=torch.float64) * (4 * math.pi / frames)
    forward = poses[:, :, 2]
    # 1 where all look the same way, 0 where they look from all around, 0.5 from the upper half of a sphere
    if float(forward.mean(0).norm()) < 0.7:
        focus, up, distances, elevations = _around(poses, target)
        low, high = (float(torch.quantile(elevations, q)) for q in (0.2, 0.8))
        swing = low + (high - low) * (1 - torch.cos(turns / 2)) / 2
        return _circling(poses, focus, up, turns, float(distances.mean()), swing)
    focus = focus_of(poses, target)
    middle = poses[:, :, 3].mean(0)
    frame = look_at(middle, focus, _up(poses))
    offsets = (poses[:, :, 3] - middle) @ frame[:, :3]
    # Four fifths of the cameras stand further in: the spiral stays where there were views.
    reach = torch.quantile(offsets.abs(), 0.8, dim=0)
    wave = torch.stack([torch.cos(turns), torch.sin(turns), torch.sin(turns / 2)], dim=1)
    places = middle + (wave * reach) @ frame[:, :3].T
    return torch.stack([look_at(place, focus, _up(poses)) for place in places])


def ring(
    low: Float64[Tensor, "3"], high: Float64[Tensor, "3"], up: Float64[Tensor, "3"]
) -> Cameras:
    """Stand in for a capture where there is none: cameras around a box, a little above it, which see all of it.

    Args:
        low, high: Corners of the box.
        up: Unit vector.
    """
    middle, reach = (low + high) / 2, float((high - low).norm()) / 2 or 1.0
    # The ball around the box touches the sides of the picture.
    distance = reach / math.sin(math.radians(_RING_VIEW / 2))
    east = torch.zeros(3, dtype=torch.float64)
    east[int(up.abs().argmin())] = 1.0
    east = _unit(east - (east @ up) * up)
    north, rise = torch.linalg.cross(up, east), math.radians(_RING_RISE)
    turns = torch.arange(_RING, dtype=torch.float64)[:, None] * (2 * math.pi / _RING)
    level = turns.cos() * east + turns.sin() * north
    places = middle + distance * (math.cos(rise) * level + math.sin(rise) * up)
    focal = _RING_SIDE / 2 / math.tan(math.radians(_RING_VIEW / 2))
    pair = torch.ones(_RING, 2, dtype=torch.float64)
    return Cameras(
        torch.stack([look_at(place, middle, up) for place in places]),
        focal * pair,
        _RING_SIDE / 2 * pair,
        torch.full((_RING, 2), _RING_SIDE),
        (Lens(),) * _RING,
    )


def _around(poses: Tensor, target: Sequence[float] | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Focus, up, and the cameras' distances and elevations (radians) as seen from the focus."""
    focus, up = focus_of(poses, target), _up(poses)
    offsets = poses[:, :, 3] - focus
    distances = offsets.norm(dim=1).clamp_min(1e-9)
    # Up to 80 degrees, for above that the turn would be a spin
    elevations = ((offsets @ up) / distances).clamp(-1, 1).asin().clamp(-1.4, 1.4)
    return focus, up, distances, elevations


def _circling(
    poses: Tensor, focus: Tensor, up: Tensor, turns: Tensor, distance: float, elevations: Tensor
) -> Tensor:
    start = poses[0, :, 3] - focus
    start = start - (start @ up) * up
    if float(start.norm()) < 1e-6 * distance:
        start = torch.linalg.cross(up, poses[0, :, 0])
    east = _unit(start)
    north = torch.linalg.cross(up, east)
    level = turns.cos()[:, None] * east + turns.sin()[:, None] * north
    offsets = elevations.cos()[:, None] * level + elevations.sin()[:, None] * up
    return torch.stack([look_at(focus + distance * offset, focus, up) for offset in offsets])


def _up(poses: Tensor) -> Tensor:
    """Mean of the cameras' up directions; an axis of the world when that is meant (within 15 degrees)."""
    up = _mean_direction(-poses[:, :, 1])
    axis = int(up.abs().argmax())
    if float(up[axis].abs()) > math.cos(math.radians(15)):
        snapped = torch.zeros(3, dtype=torch.float64)
        snapped[axis] = torch.sign(up[axis])
        return snapped
    return up


def _mean_direction(directions: Tensor) -> Tensor:
    mean = directions.mean(0)
    return _unit(mean if float(mean.norm()) > 1e-3 else directions[0])


def _unit(vector: Tensor) -> Tensor:
    unit: Tensor = vector / vector.norm().clamp_min(1e-12)
    return unit


def _fitted(cameras: Cameras, size: FrameSize) -> Cameras:
    """Cameras whose pictures are scaled to a size; where only one side is given the other keeps the proportion."""
    if size == FrameSize():
        return cameras
    sizes = [_complete(size, int(w), int(h)) for w, h in cameras.size.tolist()]
    return cameras.fitted(torch.tensor(sizes))


def _complete(size: FrameSize, width: int, height: int) -> tuple[int, int]:
    if size.width is not None and size.height is not None:
        return size.width, size.height
    if size.width is not None:
        return size.width, max(1, round(height * size.width / width))
    if size.height is not None:
        return max(1, round(width * size.height / height)), size.height
    return width, height


def _pinholes(
    poses: Tensor, zooms: Sequence[float | None], capture: Cameras, size: FrameSize
) -> Cameras:
    """Cameras without distortion, as wide as the photographs where no zoom is given."""
    first_width, first_height = (int(v) for v in capture.size[0])
    width, height = _complete(size, first_width, first_height)
    focal = float(capture.focal[0].mean())
    # The larger factor: of a picture of another proportion, no side shows more than the photographs did.
    own = focal * max(width / first_width, height / first_height)
    focals = [own if zoom is None else height / 2 / zoom for zoom in zooms]
    count = len(focals)
    return Cameras(
        poses,
        focal=torch.tensor(focals, dtype=torch.float64)[:, None].expand(count, 2).clone(),
        center=torch.tensor([[width / 2, height / 2]], dtype=torch.float64)
        .expand(count, 2)
        .clone(),
        size=torch.tensor([[width, height]]).expand(count, 2).clone(),
        lenses=(Lens(),) * count,
    )
