"""LLFF scenes: poses_bounds.npy beside folders of images, forward-facing photographs.

Each of N rows has a 3x5 matrix, row by row, and the nearest and farthest depth. The matrix's columns are the camera's
down, right and backward axes, its position, and (height, width, focal length). Images are those of the largest folder
that is complete, in the order of their names.

Source: B. Mildenhall et al., "Local light field fusion" (2019), its data format.
"""

from pathlib import Path

import numpy as np
import torch

from polyfield.datasets.decode import read_header
from polyfield.datasets.formats.colmap_files import read_cameras, read_points3d
from polyfield.datasets.formats.frames import reduced_folders
from polyfield.datasets.formats.pictures import save_picture
from polyfield.datasets.lenses import Lens, split_parameters
from polyfield.datasets.posed import (
    IMAGE_ENDINGS,
    Posed,
    checked_poses,
    checked_sizes,
    make_cameras,
)
from polyfield.datasets.scene import Scene
from polyfield.errors import DataError, InputError
from polyfield.files import replacing

__all__ = ["detect", "read", "write"]

MISSING = "there is no poses_bounds.npy"

_FILE = "poses_bounds.npy"


def detect(folder: Path) -> str | None:
    """Say why a folder is of this format, or None."""
    return f"it has a {_FILE}" if (folder / _FILE).is_file() else None


def read(folder: Path) -> Posed:
    """Read the cameras of an LLFF scene, its depth bounds, and points where COLMAP's are there.

    Raises:
        DataError: The file is no 17-column array of numbers, or there are not as many images as poses.
    """
    rows = _rows(folder / _FILE)
    images, tried = _images(folder, len(rows))
    if images is None:
        raise DataError(
            f"{folder / _FILE} has {len(rows)} poses, but no folder of as many images is there ({tried})."
        )
    names = [f"{path.parent.name}/{path.name}" for path in images]
    matrix = rows[:, :15].reshape(-1, 3, 5)
    down, right, back, position = (matrix[:, :, i] for i in range(4))
    poses, warnings = checked_poses(np.stack([right, down, -back, position], axis=2), names, _FILE)
    height, width, focal = matrix[:, :, 4].T
    if not (np.isfinite(matrix[:, :, 4]).all() and (np.abs(matrix[:, :, 4]) < 1e9).all()):
        raise DataError(f"{_FILE}: a height, width or focal length is not usable.")
    cameras = make_cameras(
        poses,
        np.stack([focal, focal], 1).tolist(),
        (np.stack([width, height], 1) / 2).tolist(),  # the format has no principal point
        np.stack([width, height], 1).astype(np.int64).tolist(),
        _lenses(folder, width, height, focal),
        names,
        _FILE,
    )
    sizes = torch.tensor([(h.width, h.height) for h in map(read_header, images)])
    cameras, notes = checked_sizes(cameras, sizes, names, _FILE)
    if not cameras.straight:
        notes.append(f"Lens distortion was taken from {_CAMERAS}.")
    bounds = torch.from_numpy(rows[:, 15:].copy())
    if not bool(((bounds[:, 0] > 0) & (bounds[:, 1] > bounds[:, 0])).all()):
        raise DataError(f"{_FILE}: near and far must be 0 < near < far for every image.")
    points, colors = None, None
    if (folder / _POINTS).is_file():
        read_points = read_points3d(folder / _POINTS)
        points, colors = torch.from_numpy(read_points.xyz), torch.from_numpy(read_points.rgb)
    return Posed(
        format="llff",
        reason=detect(folder) or "it was asked for",
        cameras=cameras,
        paths=tuple(images),
        names=tuple(names),
        masks=(None,) * len(names),
        points=points,
        point_colors=colors,
        bounds=bounds,
        notes=tuple(notes),
        warnings=tuple(warnings),
    )


_CAMERAS, _POINTS = "sparse/0/cameras.bin", "sparse/0/points3D.bin"


def _rows(path: Path) -> np.ndarray:
    """Read the array, but never anything that is pickled."""
    try:
        rows = np.load(path, allow_pickle=False)
    except OSError:
        raise
    except Exception:  # NumPy lets through whatever Python's own parser says of a broken header
        raise DataError(
            f"{path} is not an array of numbers in NumPy's format, or it is cut off (pickles are never read)."
        ) from None
    if not isinstance(rows, np.ndarray) or rows.dtype.kind not in "fiu":
        raise DataError(f"{path} must hold one array of numbers.")
    if rows.ndim != 2 or rows.shape[1] != 17 or not len(rows):
        raise DataError(
            f"{path} must have 17 numbers for each image, but its shape is {list(rows.shape)}."
        )
    rows = rows.astype(np.float64)
    if not np.isfinite(rows).all():
        i = int(np.flatnonzero(~np.isfinite(rows).all(1))[0])
        raise DataError(f"{path}: row {i} has a number that is not finite.")
    return rows


def _images(folder: Path, count: int) -> tuple[list[Path] | None, str]:
    """Find the first of images/, images_2/, ... with `count` images."""
    tried = []
    for place in (folder / "images", *reduced_folders(folder)):
        if not place.is_dir():
            continue
        files = sorted(
            path
            for path in place.iterdir()
            if path.suffix.lower() in IMAGE_ENDINGS
            and not path.name.startswith(".")
            and path.is_file()
        )
        if len(files) == count:
            return files, ""
        tried.append(f"{place.name} has {len(files)}")
    return None, ", ".join(tried) or "there is no images/ and no images_K/"


def _lenses(folder: Path, width: np.ndarray, height: np.ndarray, focal: np.ndarray) -> list[Lens]:
    """Take the lens of COLMAP's camera where there is one, of which these poses are plainly a copy.

    LLFF's file has no place for distortion, but its images are not undistorted either.
    """
    lens = Lens()
    path = folder / _CAMERAS
    if path.is_file():
        cameras = list(read_cameras(path).values())
        if len(cameras) == 1:
            (fx, fy), center, found = split_parameters(cameras[0].model, cameras[0].parameters)
            same = [fx, fy, *(2 * c for c in center), cameras[0].width, cameras[0].height]
            for i in range(len(focal)):
                wanted = [focal[i], focal[i], width[i], height[i], width[i], height[i]]
                if not np.allclose(same, wanted, rtol=1e-3):
                    return [lens] * len(focal)
            lens = found
    return [lens] * len(focal)


def write(scene: Scene, folder: Path) -> None:
    """Write a scene in this format, images as PNG in the order of their numbers.

    Raises:
        InputError: A camera is no centred pinhole with one focal length.
    """
    cameras = scene.cameras
    centred = torch.allclose(cameras.center, cameras.size.double() / 2, atol=1e-6)
    square = torch.allclose(cameras.focal[:, 0], cameras.focal[:, 1])
    if not (cameras.straight and centred and square):
        raise InputError(
            "The LLFF format holds centred pinhole cameras with one focal length each; this scene has others."
        )
    pose = cameras.world_from_camera.numpy()
    right, down, forward, position = (pose[:, :, i] for i in range(4))
    size = cameras.size.double().numpy()
    last = np.stack([size[:, 1], size[:, 0], cameras.focal[:, 0].numpy()], 1)
    matrix = np.stack([down, right, -forward, position, last], axis=2).reshape(-1, 15)
    bounds = np.broadcast_to([max(scene.near, 1e-3), scene.far], (len(matrix), 2))
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(len(matrix)):
        save_picture(scene.images, i, folder / "images" / f"image{i:04d}.png")
    with replacing(folder / _FILE) as beside:
        np.save(beside, np.concatenate([matrix, bounds], axis=1), allow_pickle=False)
