"""Camera paths in a file: keyframes, and smooth motion between them.

The file is JSON:

    {
      "width": 960, "height": 540,          size of the frames; optional
      "fps": 30, "seconds": 6,              optional; 30 frames a second, 2 s a keyframe
      "loop": false,                        whether the last keyframe leads back to the first
      "keyframes": [
        {
          "world_from_camera": [[...], [...], [...], [0, 0, 0, 1]],
          "fov": 45,                        vertical angle of view in degrees, or "focal" in pixels
          "time": 0.0                       seconds; in all keyframes or in none
        }
      ]
    }

Poses are 4x4 (or 3x4) with OpenCV axes: the columns are the camera's right, down, forward and position in the world of
the scene. "focal" needs "height". Without "fov" and "focal" the view is as wide as that of the photographs.

Positions follow a cubic through the keyframes (Catmull-Rom tangents, for times that need not be even), rotations turn
at even speed from one to the next (slerp), the logarithm of the zoom is linear.
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float64
from torch import Tensor

from polyfield.config import from_json
from polyfield.datasets.posed import FARTHEST
from polyfield.errors import ConfigError, DataError
from polyfield.files import read_json

__all__ = ["CameraFile", "Keyframe", "interpolate", "read_camera_file"]

_MAX_FRAMES = 100_000
_ZOOMS = (1e-6, 1e6)  # far beyond any telescope and any fisheye


@dataclass(frozen=True)
class Keyframe:
    """One keyframe, as the file has it; see the head of this module."""

    world_from_camera: tuple[tuple[float, ...], ...]
    fov: float | None = None
    focal: float | None = None
    time: float | None = None

    def __post_init__(self) -> None:
        rows = [len(row) for row in self.world_from_camera]
        if rows not in ([4, 4, 4], [4, 4, 4, 4]):
            raise ConfigError("A keyframe's world_from_camera must be a 4x4 or 3x4 matrix.")
        if len(rows) == 4 and self.world_from_camera[3] != (0.0, 0.0, 0.0, 1.0):
            raise ConfigError("The last row of a keyframe's world_from_camera must be 0, 0, 0, 1.")
        if any(abs(row[3]) > FARTHEST for row in self.world_from_camera[:3]):
            raise ConfigError(f"A keyframe's position must be within {FARTHEST:g} of the origin.")
        if self.fov is not None and self.focal is not None:
            raise ConfigError("A keyframe has either a fov or a focal, not both.")
        if self.fov is not None and not 0 < self.fov < 180:
            raise ConfigError(
                f"A keyframe's fov must be between 0 and 180 degrees, not {self.fov}."
            )
        if self.focal is not None and not self.focal > 0:
            raise ConfigError(f"A keyframe's focal must be above 0 pixels, not {self.focal}.")


@dataclass(frozen=True)
class CameraFile:
    """A camera path, as the file has it; see the head of this module."""

    keyframes: tuple[Keyframe, ...]
    width: int | None = None
    height: int | None = None
    fps: int = 30
    seconds: float | None = None
    loop: bool = False
    # Not of the file: half the picture's height over the focal length, and the time, of each keyframe
    zooms: tuple[float | None, ...] = field(init=False)
    times: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not self.keyframes:
            raise ConfigError("A camera path needs at least one keyframe.")
        for name in ("width", "height"):
            value = getattr(self, name)
            if value is not None and not 8 <= value <= 16384:
                raise ConfigError(f"{name} must be between 8 and 16384 pixels, not {value}.")
        if not 1 <= self.fps <= 240:
            raise ConfigError(f"fps must be between 1 and 240, not {self.fps}.")
        if self.seconds is not None and not 0 < self.seconds * self.fps <= _MAX_FRAMES:
            raise ConfigError(f"seconds must be above 0 and give at most {_MAX_FRAMES} frames.")
        object.__setattr__(self, "zooms", tuple(self._zoom(key) for key in self.keyframes))
        object.__setattr__(self, "times", self._times())
        if self.times[-1] * self.fps > _MAX_FRAMES:
            raise ConfigError(f"The path is longer than {_MAX_FRAMES} frames.")

    def _zoom(self, key: Keyframe) -> float | None:
        if key.fov is not None:
            zoom = math.tan(math.radians(key.fov) / 2)
        elif key.focal is None:
            return None
        elif self.height is None:
            raise ConfigError("A keyframe's focal needs the path's height, in pixels too.")
        else:
            zoom = self.height / 2 / key.focal
        if not _ZOOMS[0] <= zoom <= _ZOOMS[1]:
            raise ConfigError(
                f"A keyframe's fov or focal is that of no camera: half the height over the focal must be from "
                f"{_ZOOMS[0]:g} to {_ZOOMS[1]:g}, but is {zoom:g}."
            )
        return zoom

    def _times(self) -> tuple[float, ...]:
        """Times of the keyframes, of a loop also that of its return."""
        given = [key.time for key in self.keyframes if key.time is not None]
        count = len(self.keyframes) + self.loop
        if not given:
            step = (self.seconds or 2.0 * (count - 1)) / max(count - 1, 1)
            return tuple(step * i for i in range(count))
        if len(given) != len(self.keyframes):
            raise ConfigError("Either all keyframes have a time or none.")
        if self.loop:
            given.append(self.seconds if self.seconds is not None else given[-1] + 2.0)
        if given[0] != 0 or any(b <= a for a, b in pairwise(given)):
            raise ConfigError("The times of the keyframes must begin at 0 and rise.")
        return tuple(given)

    def frame_times(self, frames: int | None = None) -> list[float]:
        """Times of the frames: from the first keyframe to the last; of a loop up to just before the return."""
        length = self.times[-1] if len(self.times) > 1 else (self.seconds or 0.0)
        count = frames if frames is not None else max(1, round(length * self.fps))
        if self.loop:
            return [length * i / count for i in range(count)]
        return [length * i / max(count - 1, 1) for i in range(count)]


def read_camera_file(path: Path | str) -> CameraFile:
    """Read and check a camera path.

    Raises:
        InputError: There is no such file.
        DataError: It is no JSON, has unknown keys, or a pose is no rotation.
    """
    try:
        read = from_json(CameraFile, read_json(path), "the camera path")
        for number, key in enumerate(read.keyframes):
            _rotation(key, number)
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from None
    return read


def interpolate(
    path: CameraFile, times: list[float]
) -> tuple[Float64[Tensor, "F 3 4"], list[float | None]]:
    """Find the cameras at some times.

    Args:
        path: The keyframes.
        times: Seconds; before the first and after the last keyframe the camera rests.

    Returns:
        world_from_camera: Poses with OpenCV axes.
        zooms: Half the picture's height over the focal length, None for the photographs' own.
    """
    keys = list(path.keyframes) + ([path.keyframes[0]] if path.loop else [])
    zooms = list(path.zooms) + ([path.zooms[0]] if path.loop else [])
    at = path.times
    rotations = [_rotation(key, i) for i, key in enumerate(keys)]
    positions = torch.tensor(
        [[row[3] for row in key.world_from_camera[:3]] for key in keys], dtype=torch.float64
    )
    tangents = _tangents(positions, at, path.loop)
    poses, seen = [], []
    for time in times:
        i = max(0, min(len(at) - 2, sum(t <= time for t in at) - 1))
        j = min(i + 1, len(at) - 1)
        span = at[j] - at[i]
        u = min(max((time - at[i]) / span, 0.0), 1.0) if span > 0 else 0.0
        position = _cubic(positions[i], positions[j], tangents[i] * span, tangents[j] * span, u)
        poses.append(torch.cat([_turn(rotations[i], rotations[j], u), position[:, None]], dim=1))
        a, b = zooms[i], zooms[j]
        seen.append(None if a is None or b is None else a * (b / a) ** u)
    return torch.stack(poses), seen


def _cubic(p0: Tensor, p1: Tensor, m0: Tensor, m1: Tensor, u: float) -> Tensor:
    """Cubic Hermite curve from p0 to p1."""
    return (
        (2 * u**3 - 3 * u**2 + 1) * p0
        + (u**3 - 2 * u**2 + u) * m0
        + (3 * u**2 - 2 * u**3) * p1
        + (u**3 - u**2) * m1
    )


def _tangents(positions: Tensor, at: tuple[float, ...], loop: bool) -> Tensor:
    """Velocity at each keyframe: from the one before to the one after; at the ends of an open path, one-sided."""
    count = len(at)
    tangents = torch.zeros_like(positions)
    for i in range(count):
        before, after = max(i - 1, 0), min(i + 1, count - 1)
        span = at[after] - at[before]
        way = positions[after] - positions[before]
        if loop and i in (0, count - 1) and count > 2:  # the neighbours across the seam
            way = positions[1] - positions[-2]
            span = (at[1] - at[0]) + (at[-1] - at[-2])
        if span > 0:
            tangents[i] = way / span
    return tangents


def _turn(start: Tensor, end: Tensor, u: float) -> Tensor:
    """Rotate from start (u = 0) to end (u = 1) about one axis at even speed, the short way."""
    relative = start.T @ end
    cosine = float((relative.trace() - 1) / 2)
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    if angle < 1e-9:
        return start
    if math.pi - angle < 1e-4:  # half a turn: the antisymmetric part vanishes, the axis is in R + 1
        column = (relative + torch.eye(3, dtype=torch.float64)).norm(dim=0).argmax()
        axis = (relative + torch.eye(3, dtype=torch.float64))[:, column]
    else:
        skew = relative - relative.T
        axis = torch.stack([skew[2, 1], skew[0, 2], skew[1, 0]])
    x, y, z = (axis / axis.norm()).tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    part = angle * u
    turn = torch.eye(3, dtype=torch.float64) + math.sin(part) * cross
    return start @ (turn + (1 - math.cos(part)) * cross @ cross)


def _rotation(key: Keyframe, number: int) -> Float64[Tensor, "3 3"]:
    """Rotation of a keyframe, freed of the rounding of its digits."""
    given = torch.tensor([row[:3] for row in key.world_from_camera[:3]], dtype=torch.float64)
    # Digits as people and other programs write them are good for 1e-3; a scale or a mirror is far off.
    if float((given.T @ given - torch.eye(3, dtype=torch.float64)).abs().max()) > 1e-3:
        raise ConfigError(
            f"the pose of keyframe {number} is no rotation: its axes must be unit and square."
        )
    if float(torch.linalg.det(given)) < 0:
        raise ConfigError(f"the pose of keyframe {number} is mirrored (left-handed).")
    left, _, right = torch.linalg.svd(given)
    rotation: Tensor = left @ right
    return rotation
