"""What every reader of posed images gives, and the checks that all of them share.

A reader turns one format into `Posed`: cameras in our axes, files, and whatever else the format knows. Nothing is
decoded yet; only the headers of images are read, for their sizes.
"""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from polyfield.datasets.cameras import Cameras
from polyfield.datasets.lenses import Lens
from polyfield.errors import DataError

__all__ = [
    "CV_FROM_GL",
    "FARTHEST",
    "IMAGE_ENDINGS",
    "Posed",
    "checked_intrinsics",
    "checked_poses",
    "checked_sizes",
    "inside",
    "listed",
    "make_cameras",
    "number",
    "refuse_duplicates",
    "refuse_odd_sizes",
]

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm")

# OpenGL cameras (x right, y up, looking along -z) to ours: world_from_gl @ CV_FROM_GL; it is its own inverse.
CV_FROM_GL = np.diag([1.0, -1.0, -1.0, 1.0])

FARTHEST = 1e9  # positions beyond this do not survive float32

_RIGID = 1e-3  # how far a pose may be from a rotation: files with few decimals are, broken ones are further
_FOCAL = (1e-3, 1e6)  # focal length over image size: far beyond any fisheye and any telescope


@dataclass(frozen=True)
class Posed:
    """Posed images as a format describes them, images not yet decoded.

    Attributes:
        format: "blender", "transforms", "colmap" or "llff".
        reason: Why this format was chosen, as the end of a sentence.
        cameras: One for each image, at the images' real sizes, in the world of the file.
        paths: The image files.
        names: Their names as the format has them, unique, without the folder of the scene.
        masks: A mask file or None for each image.
        split: The file's own split, or None where it has none.
        points: Positions of known surface points in the same world.
        point_colors: uint8 RGB.
        bounds: Near and far distance along the view axis of each image.
        cube: The region that the file declares as its subject, (lowest corner, highest corner).
        cube_reach: By which factor around the cube's centre the file says that the scene goes on, >= 1.
        notes: What was decided while reading.
        warnings: What the user should know.
    """

    format: str
    reason: str
    cameras: Cameras
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    masks: tuple[Path | None, ...]
    split: Mapping[str, tuple[int, ...]] | None = None
    points: Float64[Tensor, "P 3"] | None = None
    point_colors: Tensor | None = None
    bounds: Float64[Tensor, "C 2"] | None = None
    cube: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    cube_reach: float = 1.0
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def checked_poses(
    matrices: Sequence[object] | np.ndarray, names: Sequence[str], where: str
) -> tuple[Float64[Tensor, "C 3 4"], list[str]]:
    """Check camera-to-world matrices (3x4 or 4x4, any axes) and make their rotations exact.

    A uniform scale is taken off with a warning; positions are kept.

    Args:
        matrices: One for each image.
        names: What to call them in messages.
        where: The file they came from.

    Returns:
        Poses, and warnings.

    Raises:
        DataError: Not numbers, not 3x4 or 4x4, not finite, singular, left-handed, or bent out of shape.
    """
    poses = np.empty((len(names), 3, 4))
    for i, (matrix, name) in enumerate(zip(matrices, names, strict=True)):
        try:
            array = np.asarray(matrix, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"{where}: the pose of {name} is not a matrix of numbers.") from None
        if array.shape not in ((3, 4), (4, 4)):
            raise DataError(
                f"{where}: the pose of {name} must be a 4x4 or 3x4 matrix, but its shape is"
                f" {'x'.join(map(str, array.shape)) or 'that of a number'}."
            )
        if array.shape == (4, 4) and not np.allclose(array[3], [0, 0, 0, 1], atol=1e-6):
            raise DataError(
                f"{where}: the last row of the pose of {name} must be 0 0 0 1, but is"
                f" {' '.join(f'{value:g}' for value in array[3])}."
            )
        poses[i] = array[:3]
    _refuse_where(
        ~np.isfinite(poses).all(axis=(1, 2)), names, f"{where}: the pose of {{}} is not finite."
    )
    _refuse_where(
        (np.abs(poses) > FARTHEST).any((1, 2)),
        names,
        f"{where}: the pose of {{}} has numbers above {FARTHEST:g}; rescale the scene.",
    )
    rotations = poses[:, :, :3]
    determinants = np.linalg.det(rotations)
    sizes = np.cbrt(np.abs(determinants))
    lengths = np.linalg.norm(rotations, axis=1).max(1)
    _refuse_where(
        sizes <= 1e-6 * np.maximum(lengths, 1e-30),
        names,
        f"{where}: the pose of {{}} is singular: its axes do not span space.",
    )
    _refuse_where(
        determinants < 0,
        names,
        f"{where}: the pose of {{}} is left-handed (mirrored); a camera's axes must be right-handed.",
    )
    rotations = rotations / sizes[:, None, None]
    error = np.abs(rotations.transpose(0, 2, 1) @ rotations - np.eye(3)).max((1, 2))
    _refuse_where(
        error > _RIGID,
        names,
        f"{where}: the axes of the pose of {{}} are not at right angles or not equally long"
        f" (by more than {_RIGID}).",
    )
    for _ in range(4):  # towards the nearest rotation; the error squares in each turn
        gram = rotations.transpose(0, 2, 1) @ rotations
        rotations = rotations @ (1.5 * np.eye(3) - 0.5 * gram)
    poses[:, :, :3] = rotations
    warnings = []
    scaled = np.abs(sizes - 1) > _RIGID
    if scaled.any():
        warnings.append(
            f"{where}: {int(scaled.sum())} poses have a scale in their rotation"
            f" ({sizes[scaled][0]:.4g}); it was removed, the positions were kept."
        )
    return torch.from_numpy(poses), warnings


def checked_intrinsics(
    focal: Float64[Tensor, "C 2"],
    center: Float64[Tensor, "C 2"],
    size: Int64[Tensor, "C 2"],
    names: Sequence[str],
    where: str,
) -> None:
    """Refuse what no camera has.

    Raises:
        DataError: A size below one pixel, a focal length that is zero, negative, not finite or absurd, or a principal
            point that is not finite or far outside.
    """
    wide = size.double()
    _refuse_where(
        (size < 1).any(1).numpy() | (size > 1 << 20).any(1).numpy(),
        names,
        f"{where}: the image size of {{}} is not usable.",
    )
    _refuse_where(
        (~(torch.isfinite(focal) & (focal > 0)).all(1)).numpy(),
        names,
        f"{where}: the focal length of {{}} must be a number above 0.",
    )
    largest = wide.amax(1, keepdim=True)
    _refuse_where(
        ((focal < _FOCAL[0] * largest) | (focal > _FOCAL[1] * largest)).any(1).numpy(),
        names,
        f"{where}: the focal length of {{}} does not fit its image size; it must be in pixels.",
    )
    _refuse_where(
        (~(torch.isfinite(center) & (center.abs() < 100 * largest)).all(1)).numpy(),
        names,
        f"{where}: the principal point of {{}} is not near its image; it must be in pixels.",
    )


def checked_sizes(
    cameras: Cameras,
    sizes: Int64[Tensor, "C 2"],
    names: Sequence[str],
    where: str,
) -> tuple[Cameras, list[str]]:
    """Scale intrinsics from the declared sizes to the images' real ones.

    Args:
        cameras: With the sizes that the format declares.
        sizes: Real width and height of the images.
        names: What to call them in messages.
        where: The file the cameras came from.

    Returns:
        The cameras of the real images, and notes.

    Raises:
        DataError: A real size that is no scaling of the declared one, to within a pixel of rounding, or not the same
            scaling as that of the other images.
    """
    declared, real = cameras.size.double(), sizes.double()
    # The real width, and what the height says that it should be: a reduced side may have been rounded by a pixel.
    factor = real / declared
    apart = (factor[:, 0] - factor[:, 1]).abs() * declared.amin(1)
    for i in torch.nonzero(apart > 1.0 + 1e-9).flatten().tolist():
        (w, h), (dw, dh) = sizes[i].tolist(), cameras.size[i].tolist()
        turned = (
            " It looks turned by 90 degrees; turning marks of the camera (EXIF) are ignored."
            if abs(h / dw - w / dh) * min(dw, dh) <= 1
            else ""
        )
        raise DataError(
            f"{names[i]} is {w}x{h} pixels, but {where} declares {dw}x{dh}, which is of another shape.{turned}"
        )
    _refuse_odd_scales(cameras.size, sizes, names, where)
    notes = []
    if bool((sizes != cameras.size).any()):
        first = int((sizes != cameras.size).any(1).nonzero()[0])
        (w, h), (dw, dh) = sizes[first].tolist(), cameras.size[first].tolist()
        notes.append(f"Intrinsics were scaled from {dw}x{dh} to the images' {w}x{h} pixels.")
    return cameras.fitted(sizes), notes


def _refuse_odd_scales(
    declared: Int64[Tensor, "C 2"], real: Int64[Tensor, "C 2"], names: Sequence[str], where: str
) -> None:
    """Refuse a scene of which only some images were reduced: whoever did it did not mean to."""
    if not len(names):
        return
    scale = (real.double() / declared.double()).mean(1)
    most, at = scale.median(0)
    # A side may be rounded by a pixel, and so may those that `most` was taken from.
    room = 1.0 + declared.amax(1).double() / declared[at].amin().double()
    odd = torch.nonzero((scale - most).abs() * declared.amax(1) > room).flatten().tolist()
    if odd:
        i = odd[0]
        (w, h), (dw, dh) = real[i].tolist(), declared[i].tolist()
        raise DataError(
            f"{names[i]} is {w}x{h} pixels where {where} declares {dw}x{dh}, a scale of {float(scale[i]):.3g},"
            f" but most images have a scale of {float(most):.3g} ({len(odd)} of {len(names)} differ);"
            " all images must be scaled alike."
        )


def refuse_odd_sizes(sizes: Sequence[tuple[int, int]], names: Sequence[str], where: str) -> None:
    """Refuse images of several sizes that one camera without a declared size is said to have taken.

    Raises:
        DataError: They are of several sizes.
    """
    counts = Counter(sizes)
    if len(counts) > 1:
        (width, height), most = counts.most_common(1)[0]
        i = next(i for i, size in enumerate(sizes) if size != (width, height))
        raise DataError(
            f"{names[i]} is {sizes[i][0]}x{sizes[i][1]} pixels, but {most} of the {len(sizes)} images of {where},"
            f" which have one camera in common, are {width}x{height}; all must be of one size."
        )


def make_cameras(
    poses: Float64[Tensor, "C 3 4"],
    focal: Sequence[Sequence[float]],
    center: Sequence[Sequence[float]],
    size: Sequence[Sequence[int]],
    lenses: Sequence[Lens],
    names: Sequence[str],
    where: str,
) -> Cameras:
    """Put checked poses and yet unchecked intrinsics together.

    Raises:
        DataError: As `checked_intrinsics`.
    """
    count = len(names)
    too_large = [i for i in range(count) if max(size[i]) >= 1 << 62 or min(size[i]) < 0]
    if too_large:
        raise DataError(f"{where}: the image size of {names[too_large[0]]} is not usable.")
    cameras = Cameras(
        poses,
        torch.tensor(focal, dtype=torch.float64).reshape(count, 2),
        torch.tensor(center, dtype=torch.float64).reshape(count, 2),
        torch.tensor(size, dtype=torch.int64).reshape(count, 2),
        tuple(lenses),
    )
    checked_intrinsics(cameras.focal, cameras.center, cameras.size, names, where)
    return cameras


def inside(folder: Path, text: object, where: str) -> str:
    """Check a file name that a scene file gives: relative, and not leaving the folder.

    Returns:
        The name with forward slashes and without a leading "./".

    Raises:
        DataError: Not a text, empty, absolute, with a "..", or with characters that no file name has.
    """
    if not isinstance(text, str) or not text or "\0" in text:
        raise DataError(f"{where}: a file name must be a text, but is {text!r}.")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise DataError(f"{where}: {text!r} cannot be the name of a file here.") from None
    name = PurePosixPath(text.replace("\\", "/"))
    if name.is_absolute() or PureWindowsPath(text).drive or PureWindowsPath(text).root:
        raise DataError(
            f"{where}: the file name {text!r} is absolute; write it relative to {folder}."
        )
    if ".." in name.parts:
        raise DataError(f"{where}: the file name {text!r} leaves the folder of the scene by '..'.")
    if name == PurePosixPath("."):
        raise DataError(f"{where}: the file name {text!r} names no file.")
    return str(name)


def refuse_duplicates(names: Sequence[str], where: str) -> None:
    """Refuse a list of images that names one twice.

    Raises:
        DataError: It does.
    """
    for name, count in Counter(names).items():
        if count > 1:
            raise DataError(f"{where} names {name} {count} times; each image may be there once.")


def listed(names: Sequence[str], most: int = 20) -> str:
    """Write names as a list in a sentence, cut off after `most`.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def number(value: object, name: str, where: str) -> float:
    """Take a number from a JSON file.

    Raises:
        DataError: It is none, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{where}: {name} must be a number, but is {str(value)[:40]!r}.")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise DataError(f"{where}: {name} must be a finite number, but is {result}.")
    return result


def _refuse_where(bad: object, names: Sequence[str], message: str) -> None:
    if np.any(np.asarray(bad)):
        raise DataError(message.format(names[int(np.flatnonzero(np.asarray(bad))[0])]))
