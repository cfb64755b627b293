"""Frames of a transforms file: what Blender, instant-ngp and nerfstudio scenes have in common.

A file is one JSON object with intrinsics and a list `frames`, each with `file_path`, `transform_matrix` (camera to
world, OpenGL axes) and possibly intrinsics of its own, which go before the file's.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from polyfield.datasets.cameras import Cameras
from polyfield.datasets.decode import read_header
from polyfield.datasets.lenses import Lens
from polyfield.datasets.posed import (
    CV_FROM_GL,
    IMAGE_ENDINGS,
    checked_poses,
    checked_sizes,
    inside,
    make_cameras,
    number,
    refuse_duplicates,
    refuse_odd_sizes,
)
from polyfield.errors import DataError
from polyfield.files import read_json

__all__ = ["Frames", "from_gl", "joined", "read_frames", "reduced_folders", "to_gl"]


@dataclass(frozen=True)
class Frames:
    """The frames of one file whose images exist.

    Attributes:
        meta: The file's other keys.
        cameras: At the images' real sizes.
        declared: Their names as the file has them.
        names: File names relative to the scene, with their endings.
        paths: Where they are.
        masks: A mask file or None for each.
        missing: Names of frames without an image.
        notes: What was decided.
        warnings: What the user should know.
    """

    meta: Mapping[str, Any]
    cameras: Cameras
    declared: tuple[str, ...]
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    masks: tuple[Path | None, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def read_frames(path: Path, views: str = "views") -> Frames:
    """Read a transforms file and the headers of its images.

    Args:
        path: The file.
        views: What its frames are, for messages.

    Raises:
        DataError: The file is broken, names files outside the scene, or none of its images is there.
    """
    meta = read_json(path)
    where, folder = path.name, path.parent
    if not isinstance(meta, dict) or not isinstance(meta.get("frames"), list):
        raise DataError(f"{path} has no list of frames; it is not a transforms file.")
    if not meta["frames"]:
        raise DataError(
            f"{path} lists no frames, so there are zero {views}; add some, or take the file away."
        )
    frames: list[dict[str, Any]] = meta["frames"]
    for i, frame in enumerate(frames):
        if not isinstance(frame, dict):
            raise DataError(f"{where}: frame {i} is not an object with named values.")
        for key in ("file_path", "transform_matrix"):
            if key not in frame:
                raise DataError(f"{where}: frame {i} has no {key!r}.")
    declared = [inside(folder, frame["file_path"], where) for frame in frames]
    refuse_duplicates(declared, where)
    found, notes = _found(folder, declared)
    missing = tuple(name for name, real in zip(declared, found, strict=True) if real is None)
    kept = [i for i, real in enumerate(found) if real is not None]
    if not kept:
        raise DataError(
            f"None of the {len(frames)} images that {path} names exists; the first is {declared[0]}."
        )
    names = tuple(real for real in found if real is not None)
    refuse_duplicates(names, where)
    frames = [frames[i] for i in kept]
    poses, warnings = checked_poses([frame["transform_matrix"] for frame in frames], names, where)
    sizes = [_size(read_header(folder / name)) for name in names]
    _check_one_camera(meta, frames, sizes, names, where)
    intrinsics = [
        _intrinsics({**meta, **frame}, size, f"{where}: {name}")
        for frame, size, name in zip(frames, sizes, names, strict=True)
    ]
    focal, center, size, lenses = zip(*intrinsics, strict=True)
    cameras = make_cameras(from_gl(poses), focal, center, size, lenses, names, where)
    cameras, scaled = checked_sizes(cameras, torch.tensor(sizes), names, where)
    return Frames(
        meta={key: value for key, value in meta.items() if key != "frames"},
        cameras=cameras,
        declared=tuple(declared[i] for i in kept),
        names=names,
        paths=tuple(folder / name for name in names),
        masks=tuple(_mask(folder, frame, where) for frame in frames),
        missing=missing,
        notes=(*notes, *scaled),
        warnings=tuple(warnings),
    )


_OF_A_CAMERA = ("w", "h", "fl_x", "fl_y", "camera_angle_x", "camera_angle_y", "x_fov", "y_fov")


def _check_one_camera(
    meta: Mapping[str, Any],
    frames: Sequence[Mapping[str, Any]],
    sizes: Sequence[tuple[int, int]],
    names: Sequence[str],
    where: str,
) -> None:
    """Where the file says nothing about sizes, the images of its one camera must agree among themselves."""
    if meta.get("w") is None or meta.get("h") is None:
        shared = [i for i, frame in enumerate(frames) if not any(k in frame for k in _OF_A_CAMERA)]
        refuse_odd_sizes([sizes[i] for i in shared], [names[i] for i in shared], where)


def from_gl(poses: Float64[Tensor, "C 3 4"]) -> Float64[Tensor, "C 3 4"]:
    """Turn cameras with OpenGL axes (x right, y up, z backward) into ours."""
    return poses @ torch.from_numpy(CV_FROM_GL)


def to_gl(poses: Float64[Tensor, "C 3 4"]) -> list[list[list[float]]]:
    """Write our cameras as 4x4 camera-to-world matrices with OpenGL axes."""
    last = np.array([[0.0, 0.0, 0.0, 1.0]])
    # Adding zero turns -0.0 into 0.0.
    return [np.vstack([pose @ CV_FROM_GL + 0.0, last]).tolist() for pose in poses.numpy()]


def _size(header: Any) -> tuple[int, int]:
    return header.width, header.height


def _found(folder: Path, declared: Sequence[str]) -> tuple[list[str | None], list[str]]:
    """Find each image, with an ending where the file leaves it out; where none is there, look in images_K."""
    found = [_with_ending(folder, name) for name in declared]
    if any(found):
        return found, []
    for reduced in reduced_folders(folder):
        inside_it = [re.sub(r"^images/", f"{reduced.name}/", name) for name in declared]
        found = [_with_ending(folder, name, other_endings=True) for name in inside_it]
        if all(found):
            return found, [f"There is no images/ folder, so {reduced.name}/ was taken."]
    return [None] * len(declared), []


def reduced_folders(folder: Path) -> list[Path]:
    """Give the folders images_2, images_4, ... of a scene, largest images first."""
    pattern = re.compile(r"images_([1-9][0-9]{0,3})")
    numbered = [
        (int(match[1]), entry)
        for entry in folder.iterdir()
        if (match := pattern.fullmatch(entry.name)) and entry.is_dir()
    ]
    return [entry for _, entry in sorted(numbered)]


def _with_ending(folder: Path, name: str, other_endings: bool = False) -> str | None:
    if name.lower().endswith(IMAGE_ENDINGS):
        if (folder / name).is_file():
            return name
        if not other_endings:
            return None
        name = name.rpartition(".")[0]
    for ending in IMAGE_ENDINGS:
        if (folder / (name + ending)).is_file():
            return name + ending
    return None


def _mask(folder: Path, frame: Mapping[str, Any], where: str) -> Path | None:
    if frame.get("mask_path") is None:
        return None
    mask = folder / inside(folder, frame["mask_path"], where)
    if not mask.is_file():
        raise DataError(f"{where}: the mask {frame['mask_path']} does not exist.")
    return mask


def _intrinsics(
    values: Mapping[str, Any], real: tuple[int, int], where: str
) -> tuple[tuple[float, float], tuple[float, float], tuple[int, int], Lens]:
    """Read focal length, principal point, declared size and lens of one frame."""

    def optional(key: str) -> float | None:
        return None if values.get(key) is None else number(values[key], key, where)

    width, height = optional("w"), optional("h")
    if width is None or height is None:
        width, height = real
    if width != int(width) or height != int(height):
        raise DataError(f"{where}: w and h must be whole numbers, but are {width} and {height}.")
    fx = _focal(optional("fl_x"), _angle(optional, "x"), width, where)
    fy = _focal(optional("fl_y"), _angle(optional, "y"), height, where)
    if fx is None and fy is None:
        raise DataError(f"{where}: there is no focal length (fl_x) and no angle (camera_angle_x).")
    cx, cy = optional("cx"), optional("cy")
    return (
        (fx if fx is not None else _known(fy), fy if fy is not None else _known(fx)),
        (width / 2 if cx is None else cx, height / 2 if cy is None else cy),
        (int(width), int(height)),
        _lens(values, optional, where),
    )


def _known(value: float | None) -> float:
    assert value is not None
    return value


def _angle(optional: Any, axis: str) -> float | None:
    angle: float | None = optional(f"camera_angle_{axis}")
    degrees: float | None = optional(f"{axis}_fov")
    return angle if angle is not None or degrees is None else math.radians(degrees)


def _focal(focal: float | None, angle: float | None, side: float, where: str) -> float | None:
    if focal is not None or angle is None:
        return focal
    if not 1e-6 < angle < math.pi:  # less is a focal length beyond all lenses, or beyond float
        raise DataError(f"{where}: a camera angle must lie between 0 and pi, but is {angle}.")
    return 0.5 * side / math.tan(0.5 * angle)


_PERSPECTIVE = ("SIMPLE_PINHOLE", "PINHOLE", "PERSPECTIVE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
_FISHEYE = ("OPENCV_FISHEYE", "FISHEYE")


def _lens(values: Mapping[str, Any], optional: Any, where: str) -> Lens:
    model = values.get("camera_model", "OPENCV_FISHEYE" if values.get("is_fisheye") else "OPENCV")
    k1, k2, k3, k4, p1, p2 = (optional(key) or 0.0 for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    if model in _FISHEYE:
        return Lens("OPENCV_FISHEYE", (k1, k2, k3, k4))
    if model == "EQUIRECTANGULAR":
        raise DataError(f"{where}: equirectangular images are not read from transforms files.")
    if model not in _PERSPECTIVE:
        known = ", ".join((*_PERSPECTIVE, *_FISHEYE))
        raise DataError(f"{where}: there is no camera_model {model!r} here. Known: {known}.")
    if k4 != 0:
        raise DataError(f"{where}: k4 is for fisheyes; set camera_model to OPENCV_FISHEYE.")
    if k3 != 0:
        return Lens("FULL_OPENCV", (k1, k2, p1, p2, k3, 0.0, 0.0, 0.0))
    if any((k1, k2, p1, p2)):
        return Lens("OPENCV", (k1, k2, p1, p2))
    return Lens("PINHOLE")


def joined(parts: Iterable[Cameras]) -> Cameras:
    """Put several sets of cameras after each other."""
    parts = list(parts)
    return Cameras(
        torch.cat([part.world_from_camera for part in parts]),
        torch.cat([part.focal for part in parts]),
        torch.cat([part.center for part in parts]),
        torch.cat([part.size for part in parts]),
        tuple(lens for part in parts for lens in part.lenses),
    )
