"""COLMAP's own files, binary and text: cameras, images and points3D.

Binary: little-endian, a count and then records without padding. Text: lines of words, '#' starts a comment, two lines
an image. Both hold the same. Newer versions add rigs and frames, which repeat what the three files say; they are not
read.

Source: COLMAP's documentation, "Output Format".
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polyfield.datasets.lenses import MODELS
from polyfield.errors import DataError
from polyfield.files import replacing

__all__ = [
    "Camera",
    "Image",
    "Points",
    "read_cameras",
    "read_images",
    "read_points3d",
    "write_cameras",
    "write_images",
    "write_points3d",
]

_OBSERVATION = np.dtype([("x", "<f8"), ("y", "<f8"), ("point", "<i8")])
_POINT = np.dtype(
    [("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8")]
)  # then a count and the track
_TRACK = np.dtype([("image", "<u4"), ("index", "<u4")])
_NAME_OF = {model.colmap_id: name for name, model in MODELS.items()}


@dataclass(frozen=True)
class Camera:
    """Intrinsics: model name, image size, and the model's parameters."""

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class Image:
    """A registered image.

    Attributes:
        id: Its number in the tracks of points.
        quaternion: Rotation camera-from-world, (w, x, y, z).
        translation: Camera-from-world.
        camera: Number of its camera.
        name: Relative to the folder of images.
        pixels: Where points were observed, [M, 2].
        points: The point's number for each observation, -1 for none, [M].
    """

    id: int
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]
    camera: int
    name: str
    pixels: np.ndarray
    points: np.ndarray


@dataclass(frozen=True)
class Points:
    """Triangulated points.

    Attributes:
        ids: Their numbers, uint64 [P].
        xyz: float64 [P, 3].
        rgb: uint8 [P, 3].
        errors: Mean reprojection error in pixels, -1 where unknown, [P].
    """

    ids: np.ndarray
    xyz: np.ndarray
    rgb: np.ndarray
    errors: np.ndarray


def read_cameras(path: Path) -> dict[int, Camera]:
    """Read cameras.bin or cameras.txt.

    Raises:
        DataError: It is cut off or broken, or a camera model is not known.
    """
    cameras = _cameras_text(path) if path.suffix == ".txt" else _cameras_binary(path)
    if not cameras:
        raise DataError(f"{path} has no cameras.")
    return cameras


def read_images(path: Path) -> list[Image]:
    """Read images.bin or images.txt.

    Raises:
        DataError: It is cut off or broken.
    """
    images = list(_images_text(path) if path.suffix == ".txt" else _images_binary(path))
    if not images:
        raise DataError(f"{path} has no images.")
    if len({image.id for image in images}) != len(images):
        raise DataError(f"{path} has two images of one number.")
    return images


def read_points3d(path: Path) -> Points:
    """Read points3D.bin or points3D.txt; tracks are left out, since images hold the same.

    Raises:
        DataError: It is cut off or broken, or a position is not finite.
    """
    points = _points_text(path) if path.suffix == ".txt" else _points_binary(path)
    if not np.isfinite(points.xyz).all():
        raise DataError(f"{path} has a point whose position is not finite.")
    return points


class _Bytes:
    """A file's bytes, read from the front; every read checks that there is enough left."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.at = path, path.read_bytes(), 0

    def need(self, count: int, what: str) -> None:
        if count > len(self.data) - self.at:
            raise DataError(f"{self.path} is cut off: it ends inside {what}.")

    def take(self, layout: struct.Struct, what: str) -> tuple[int | float, ...]:
        self.need(layout.size, what)
        values = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return values

    def array(self, kind: np.dtype, count: int, what: str) -> np.ndarray:
        self.need(count * kind.itemsize, what)
        values = np.frombuffer(self.data, kind, count, self.at)
        self.at += count * kind.itemsize
        return values

    def text(self, what: str) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise DataError(f"{self.path} is cut off: it ends inside {what}.")
        raw, self.at = self.data[self.at : end], end + 1
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise DataError(f"{self.path}: {what} is not text in UTF-8.") from None

    def finish(self) -> None:
        left = len(self.data) - self.at
        if left:
            raise DataError(f"{self.path} has {left} bytes more than its count says; it is broken.")


_COUNT = struct.Struct("<Q")
_CAMERA = struct.Struct("<IiQQ")
_IMAGE = struct.Struct("<I4d3dI")


def _cameras_binary(path: Path) -> dict[int, Camera]:
    file = _Bytes(path)
    (count,) = file.take(_COUNT, "the number of cameras")
    cameras: dict[int, Camera] = {}
    for i in range(int(count)):
        what = f"camera {i + 1} of {count}"
        number, model, width, height = (int(v) for v in file.take(_CAMERA, what))
        if model not in _NAME_OF:
            raise DataError(f"{path}: {what} has a model {model} that is not known.")
        name = _NAME_OF[model]
        wanted = MODELS[name].focals + 2 + len(MODELS[name].coefficients)
        parameters = file.array(np.dtype("<f8"), wanted, what)
        _put(cameras, number, Camera(name, width, height, tuple(parameters.tolist())), path)
    file.finish()
    return cameras


def _put(cameras: dict[int, Camera], number: int, camera: Camera, path: Path) -> None:
    if number in cameras:
        raise DataError(f"{path} has two cameras of number {number}.")
    cameras[number] = camera


def _images_binary(path: Path) -> Iterator[Image]:
    file = _Bytes(path)
    (count,) = file.take(_COUNT, "the number of images")
    for i in range(int(count)):
        what = f"image {i + 1} of {count}"
        values = file.take(_IMAGE, what)
        name = file.text(f"the name of {what}")
        (observed,) = file.take(_COUNT, what)
        seen = file.array(_OBSERVATION, int(observed), f"the observations of {what}")
        yield Image(
            id=int(values[0]),
            quaternion=tuple(float(v) for v in values[1:5]),
            translation=tuple(float(v) for v in values[5:8]),
            camera=int(values[8]),
            name=name,
            pixels=np.stack([seen["x"], seen["y"]], -1),
            points=seen["point"],
        )
    file.finish()


def _points_binary(path: Path) -> Points:
    file = _Bytes(path)
    (count,) = file.take(_COUNT, "the number of points")
    fixed, rows = _POINT.itemsize, []
    for i in range(int(count)):
        if len(file.data) - file.at < fixed + 8:
            raise DataError(f"{path} is cut off: it ends inside point {i + 1} of {count}.")
        rows.append(file.data[file.at : file.at + fixed])
        (track,) = _COUNT.unpack_from(file.data, file.at + fixed)
        file.at += fixed + 8 + _TRACK.itemsize * track
    if file.at > len(file.data):
        raise DataError(f"{path} is cut off: it ends inside the track of a point.")
    file.finish()
    table = np.frombuffer(b"".join(rows), _POINT)
    return Points(
        table["id"].copy(), table["xyz"].copy(), table["rgb"].copy(), table["error"].copy()
    )


def _lines(path: Path, things: str) -> tuple[list[str], int | None]:
    """Read the lines of a text file that are no comments, and the count that its comments announce."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not text in UTF-8.") from None
    if not text.endswith("\n"):
        raise DataError(f"{path} does not end with a new line, so it is probably cut off.")
    announced: int | None = None
    lines = []
    for line in text.split("\n")[:-1]:
        if not line.startswith("#"):
            lines.append(line.strip())
        elif line.startswith(f"# Number of {things}: "):
            word = line.removeprefix(f"# Number of {things}: ").split(",")[0].strip()
            announced = int(word) if word.isascii() and word.isdigit() and len(word) < 19 else None
    return lines, announced


def _check_count(path: Path, things: str, have: int, announced: int | None) -> None:
    if announced is not None and announced != have:
        raise DataError(f"{path} announces {announced} {things}, but has {have}; is it cut off?")


def _numbers(words: Sequence[str], path: Path, what: str) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError:
        raise DataError(f"{path}: {what} has a word that is not a number.") from None


def _whole(word: str, path: Path, what: str) -> int:
    if not (word.isascii() and word.removeprefix("-").isdigit() and len(word) < 19):
        raise DataError(f"{path}: {what} has {word[:40]!r} where a whole number should be.")
    return int(word)


def _cameras_text(path: Path) -> dict[int, Camera]:
    lines, announced = _lines(path, "cameras")
    cameras: dict[int, Camera] = {}
    for line in filter(None, lines):
        words = line.split()
        what = f"the camera {words[0]}"
        if len(words) < 4 or words[1] not in MODELS:
            model = words[1] if len(words) > 1 else ""
            raise DataError(f"{path}: {what} is cut off or has an unknown model {model!r}.")
        kind = MODELS[words[1]]
        if len(words) != 4 + kind.focals + 2 + len(kind.coefficients):
            raise DataError(
                f"{path}: {what} must have {kind.focals + 2 + len(kind.coefficients)} parameters for"
                f" {words[1]}, but has {len(words) - 4}."
            )
        size = (_whole(words[2], path, what), _whole(words[3], path, what))
        camera = Camera(words[1], *size, tuple(_numbers(words[4:], path, what)))
        _put(cameras, _whole(words[0], path, what), camera, path)
    _check_count(path, "cameras", len(cameras), announced)
    return cameras


def _images_text(path: Path) -> Iterator[Image]:
    lines, announced = _lines(path, "images")
    at = have = 0
    while at < len(lines):
        if not lines[at]:
            at += 1
            continue
        words = lines[at].split(maxsplit=9)
        what = f"the image {words[0]}"
        if len(words) != 10 or at + 1 >= len(lines):
            raise DataError(f"{path} is cut off or broken at {what}.")
        pose = _numbers(words[1:8], path, what)
        seen = _numbers(lines[at + 1].split(), path, f"the line of observations of {what}")
        if len(seen) % 3:
            raise DataError(f"{path}: the observations of {what} do not come in threes.")
        table = np.array(seen, dtype=np.float64).reshape(-1, 3)
        if not np.isfinite(table[:, 2]).all() or (np.abs(table[:, 2]) > 1 << 53).any():
            raise DataError(f"{path}: {what} observes a point whose number is not usable.")
        yield Image(
            id=_whole(words[0], path, what),
            quaternion=tuple(pose[:4]),
            translation=tuple(pose[4:]),
            camera=_whole(words[8], path, what),
            name=words[9],
            pixels=table[:, :2],
            points=table[:, 2].astype(np.int64),
        )
        at, have = at + 2, have + 1
    _check_count(path, "images", have, announced)


def _points_text(path: Path) -> Points:
    lines, announced = _lines(path, "points")
    rows = []
    for line in filter(None, lines):
        words = line.split()
        what = f"the point {words[0]}"
        if len(words) < 8 or len(words) % 2:
            raise DataError(f"{path} is cut off or broken at {what}.")
        row = _numbers(words[:8], path, what)
        if not all(
            0 <= value <= 255 and value == int(value) for value in row[4:7] if value == value
        ):
            raise DataError(f"{path}: {what} has a colour that is not between 0 and 255.")
        rows.append(row)
    _check_count(path, "points", len(rows), announced)
    table = np.array(rows, dtype=np.float64).reshape(-1, 8)
    if not np.isfinite(table).all() or (table[:, 0] < 0).any() or (table[:, 0] > 1 << 53).any():
        raise DataError(f"{path} has a point with a number that is not usable.")
    return Points(
        table[:, 0].astype(np.uint64), table[:, 1:4], table[:, 4:7].astype(np.uint8), table[:, 7]
    )


def write_cameras(path: Path, cameras: dict[int, Camera]) -> None:
    """Write cameras.bin or cameras.txt, by the ending of `path`."""
    if path.suffix == ".txt":
        lines = [f"# Number of cameras: {len(cameras)}"]
        for number, camera in cameras.items():
            values = " ".join(repr(value) for value in camera.parameters)
            lines.append(f"{number} {camera.model} {camera.width} {camera.height} {values}")
        _write(path, "\n".join([*lines, ""]).encode())
        return
    parts = [_COUNT.pack(len(cameras))]
    for number, camera in cameras.items():
        kind = MODELS[camera.model].colmap_id
        parts.append(_CAMERA.pack(number, kind, camera.width, camera.height))
        parts.append(np.array(camera.parameters, "<f8").tobytes())
    _write(path, b"".join(parts))


def write_images(path: Path, images: Sequence[Image]) -> None:
    """Write images.bin or images.txt, by the ending of `path`."""
    if path.suffix == ".txt":
        lines = [f"# Number of images: {len(images)}"]
        for image in images:
            pose = " ".join(repr(float(v)) for v in (*image.quaternion, *image.translation))
            lines.append(f"{image.id} {pose} {image.camera} {image.name}")
            pairs = zip(image.pixels.tolist(), image.points.tolist(), strict=True)
            lines.append(" ".join(f"{x!r} {y!r} {point}" for (x, y), point in pairs))
        _write(path, "\n".join([*lines, ""]).encode())
        return
    parts = [_COUNT.pack(len(images))]
    for image in images:
        parts.append(_IMAGE.pack(image.id, *image.quaternion, *image.translation, image.camera))
        parts.append(image.name.encode() + b"\0" + _COUNT.pack(len(image.points)))
        seen = np.empty(len(image.points), _OBSERVATION)
        seen["x"], seen["y"] = image.pixels.T
        seen["point"] = image.points
        parts.append(seen.tobytes())
    _write(path, b"".join(parts))


def write_points3d(path: Path, points: Points) -> None:
    """Write points3D.bin or points3D.txt, by the ending of `path`, with empty tracks."""
    if path.suffix == ".txt":
        lines = [f"# Number of points: {len(points.ids)}, mean track length: 0"]
        rows = zip(points.ids, points.xyz, points.rgb, points.errors, strict=True)
        for number, xyz, rgb, error in rows:
            place = " ".join(repr(float(v)) for v in xyz)
            lines.append(f"{number} {place} {' '.join(str(int(v)) for v in rgb)} {float(error)!r}")
        _write(path, "\n".join([*lines, ""]).encode())
        return
    table = np.empty(len(points.ids), np.dtype([*_POINT.descr, ("track", "<u8")]))
    table["id"], table["xyz"], table["rgb"] = points.ids, points.xyz, points.rgb
    table["error"], table["track"] = points.errors, 0
    _write(path, _COUNT.pack(len(points.ids)) + table.tobytes())


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as beside:
        beside.write_bytes(data)
