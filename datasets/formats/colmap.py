"""COLMAP scenes: a model in sparse/0 (or beside it), binary or text, and pictures in images/.

Of several models the one with the most images is taken. Pictures come from `images/`, else from the largest complete
`images_2`, `images_4`, ...; intrinsics follow their real sizes. `masks/NAME.png` is the mask of NAME.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from polyfield.datasets.cameras import Cameras
from polyfield.datasets.decode import read_header
from polyfield.datasets.formats.colmap_files import (
    Camera,
    Image,
    Points,
    read_cameras,
    read_images,
    read_points3d,
    write_cameras,
    write_images,
    write_points3d,
)
from polyfield.datasets.formats.frames import reduced_folders
from polyfield.datasets.formats.pictures import save_picture
from polyfield.datasets.lenses import join_parameters, split_parameters
from polyfield.datasets.posed import (
    IMAGE_ENDINGS,
    Posed,
    checked_poses,
    checked_sizes,
    inside,
    listed,
    make_cameras,
    refuse_duplicates,
)
from polyfield.datasets.scene import Scene
from polyfield.errors import DataError

__all__ = [
    "detect",
    "find_models",
    "quaternion_from_rotation",
    "read",
    "rotation_from_quaternion",
    "write",
]

MISSING = "there is no sparse/0 with cameras and images, or none of its pictures is in images/"

_ENOUGH = 20  # observations that make a view's depth range worth something


def detect(folder: Path) -> str | None:
    """Say why a folder is of this format, or None.

    A model whose pictures are not there does not count; one that is broken does, so that reading it says what is wrong.
    """
    models = find_models(folder)
    if not models:
        return None
    try:
        names = [image.name for image in read_images(_part(models[0], "images"))]
        if _pictures(folder, names) is None:
            return None
    except DataError:
        pass
    several = f", the largest of {len(models)} models" if len(models) > 1 else ""
    return f"it has a COLMAP model in {_relative(models[0], folder)}{several}"


def read(folder: Path) -> Posed:
    """Read the cameras and points of a COLMAP scene.

    Raises:
        DataError: A file is cut off or broken, or no picture is there.
    """
    model = find_models(folder)[0]
    where = _relative(model, folder)
    cameras = read_cameras(_part(model, "cameras"))
    images = sorted(read_images(_part(model, "images")), key=lambda image: image.name)
    refuse_duplicates([image.name for image in images], f"{where}/images")
    pictures = _pictures(folder, [image.name for image in images])
    if pictures is None:
        raise DataError(
            f"None of the {len(images)} images of {where} is in {folder / 'images'}; the first is {images[0].name}."
        )
    place, files = pictures
    warnings, notes = [], [] if place == "images" else [f"Pictures were taken from {place}/."]
    missing = [image.name for image, file in zip(images, files, strict=True) if file is None]
    if missing:
        warnings.append(
            f"{len(missing)} registered images have no picture and are skipped: {listed(missing)}."
        )
    images = [image for image, file in zip(images, files, strict=True) if file is not None]
    names = [f"{place}/{file}" for file in files if file is not None]
    paths = tuple(folder / name for name in names)
    sizes = torch.tensor([(h.width, h.height) for h in map(read_header, paths)])
    made = _cameras(images, cameras, names, where)
    fitted, scaled = checked_sizes(made, sizes, names, where)
    points, colors, bounds = _points(model, images, fitted, warnings)
    masks = tuple(_mask(folder, image.name) for image in images)
    if any(masks) and not all(masks):
        warnings.append(f"{masks.count(None)} of {len(masks)} images have no mask in masks/.")
    return Posed(
        format="colmap",
        reason=detect(folder) or "it was asked for",
        cameras=fitted,
        paths=paths,
        names=tuple(names),
        masks=masks,
        points=points,
        point_colors=colors,
        bounds=bounds,
        notes=(*notes, *scaled),
        warnings=tuple(warnings),
    )


def find_models(folder: Path) -> list[Path]:
    """Find the folders that hold cameras and images of a model, the one with the most images first."""
    places = [folder]
    for sparse in (folder / "sparse", folder / "colmap" / "sparse"):
        if sparse.is_dir():
            places += [sparse, *sorted(entry for entry in sparse.iterdir() if entry.is_dir())]
    models = [place for place in places if _has(place, "cameras") and _has(place, "images")]
    return sorted(models, key=_count, reverse=True)


def _has(place: Path, name: str) -> bool:
    return any((place / f"{name}{ending}").is_file() for ending in (".bin", ".txt"))


def _part(model: Path, name: str) -> Path:
    binary = model / f"{name}.bin"
    return binary if binary.is_file() else model / f"{name}.txt"


def _count(model: Path) -> int:
    """Count the images of a model without reading it; a broken file counts as none."""
    path = _part(model, "images")
    if path.suffix == ".bin":
        with path.open("rb") as file:
            start = file.read(8)
        return int.from_bytes(start, "little") if len(start) == 8 else 0
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return sum(not line.startswith("#") for line in lines) // 2


def _relative(model: Path, folder: Path) -> str:
    return str(model.relative_to(folder)) if model != folder else folder.name


def _pictures(folder: Path, names: Sequence[str]) -> tuple[str, list[str | None]] | None:
    """Find the folder with the pictures, and the file of each; None where there is none."""
    names = [inside(folder, name, "images") for name in names]
    if (folder / "images").is_dir():
        files = [name if (folder / "images" / name).is_file() else None for name in names]
        if any(files):
            return "images", files
    for reduced in reduced_folders(folder):
        files = [_any_ending(reduced, name) for name in names]
        if all(files):
            return reduced.name, files
    return None


def _any_ending(folder: Path, name: str) -> str | None:
    stem = name.rpartition(".")[0] or name
    options = (name, *(stem + ending for ending in IMAGE_ENDINGS))
    return next((option for option in options if (folder / option).is_file()), None)


def _mask(folder: Path, name: str) -> Path | None:
    stem = name.rpartition(".")[0] or name
    for option in (f"{name}.png", f"{stem}.png", name):
        if (folder / "masks" / option).is_file():
            return folder / "masks" / option
    return None


def _cameras(
    images: Sequence[Image], cameras: dict[int, Camera], names: Sequence[str], where: str
) -> Cameras:
    """Turn COLMAP's camera-from-world poses and parameter lists into ours."""
    for image in images:
        if image.camera not in cameras:
            raise DataError(
                f"{where}: {image.name} uses the camera {image.camera}, which is not there."
            )
    quaternions = np.array([image.quaternion for image in images])
    lengths = np.linalg.norm(quaternions, axis=1)
    bad = ~(np.abs(lengths - 1) < 1e-2)  # NaN is bad too
    if bad.any():
        name = names[int(np.flatnonzero(bad)[0])]
        raise DataError(f"{where}: the rotation of {name} is not a unit quaternion.")
    turn = rotation_from_quaternion(quaternions)
    shift = np.array([image.translation for image in images])
    inverse = turn.transpose(0, 2, 1)
    with np.errstate(invalid="ignore", over="ignore"):  # checked just below
        matrices = np.concatenate([inverse, -inverse @ shift[:, :, None]], axis=2)
    poses, _ = checked_poses(matrices, names, where)
    used = [cameras[image.camera] for image in images]
    parts = [split_parameters(camera.model, camera.parameters) for camera in used]
    return make_cameras(
        poses,
        [focal for focal, _, _ in parts],
        [center for _, center, _ in parts],
        [(camera.width, camera.height) for camera in used],
        [lens for _, _, lens in parts],
        names,
        where,
    )


def _points(
    model: Path, images: Sequence[Image], cameras: Cameras, warnings: list[str]
) -> tuple[Tensor | None, Tensor | None, Float64[Tensor, "C 2"] | None]:
    """Read points, colours, and the range of depths that each image observed."""
    if not _has(model, "points3D"):
        warnings.append(
            "The COLMAP model has no points3D; near and far are guessed from the poses."
        )
        return None, None, None
    points = read_points3d(_part(model, "points3D"))
    if len(points.ids) < _ENOUGH:
        warnings.append(f"The COLMAP model has only {len(points.ids)} points; they are not used.")
        return None, None, None
    order = np.argsort(points.ids)
    known = points.ids[order]
    bounds = np.full((len(images), 2), np.nan)
    for i, image in enumerate(images):
        seen = image.points[image.points >= 0].astype(np.uint64)
        at = np.searchsorted(known, seen).clip(max=len(known) - 1)
        rows = order[at[known[at] == seen]]
        axis = cameras.forward[i].numpy()
        depth = (points.xyz[rows] - cameras.positions[i].numpy()) @ axis
        depth = depth[depth > 0]
        if len(depth) >= _ENOUGH:  # the extremes are mostly wrong matches: LLFF's percentiles
            bounds[i] = np.percentile(depth, [0.1, 99.9])
    usable = np.isfinite(bounds).all(1)
    if not usable.any():
        return torch.from_numpy(points.xyz), torch.from_numpy(points.rgb), None
    bounds[~usable] = [bounds[usable, 0].min(), bounds[usable, 1].max()]
    return torch.from_numpy(points.xyz), torch.from_numpy(points.rgb), torch.from_numpy(bounds)


def rotation_from_quaternion(quaternions: np.ndarray) -> np.ndarray:
    """Turn quaternions (w, x, y, z) of any length into rotation matrices: [C, 4] to [C, 3, 3].

    Example:
        >>> rotation_from_quaternion(np.array([[1.0, 0.0, 0.0, 0.0]]))[0].tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows).transpose(2, 0, 1) + 0.0


def quaternion_from_rotation(rotations: np.ndarray) -> np.ndarray:
    """Turn rotation matrices into unit quaternions (w, x, y, z) with w >= 0: [C, 3, 3] to [C, 4].

    The quaternion's outer product with itself is linear in the rotation; its longest row gives the components without
    cancellation.
    """
    m = rotations
    w, x, y, z = (
        1 + sx * m[:, 0, 0] + sy * m[:, 1, 1] + sz * m[:, 2, 2]
        for sx, sy, sz in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
    )
    wx, wy, wz = m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]
    xy, xz, yz = m[:, 0, 1] + m[:, 1, 0], m[:, 0, 2] + m[:, 2, 0], m[:, 1, 2] + m[:, 2, 1]
    outer = np.array([[w, wx, wy, wz], [wx, x, xy, xz], [wy, xy, y, yz], [wz, xz, yz, z]])
    outer = outer.transpose(2, 0, 1)
    longest = np.diagonal(outer, axis1=1, axis2=2).argmax(1)
    rows = outer[np.arange(len(m)), longest]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    signed: np.ndarray = rows * np.where(rows[:, :1] < 0, -1.0, 1.0)
    return signed


def write(scene: Scene, folder: Path, ending: str = ".bin") -> None:
    """Write a scene as a COLMAP model in sparse/0 (one camera an image, no tracks), images as PNG.

    Args:
        scene: The scene.
        folder: Where to.
        ending: ".bin" or ".txt".
    """
    model = folder / "sparse" / "0"
    model.mkdir(parents=True, exist_ok=True)
    cameras, images = {}, []
    pose = scene.cameras.world_from_camera.numpy()
    turn = pose[:, :, :3].transpose(0, 2, 1)
    shift = -(turn @ pose[:, :, 3:])[:, :, 0]
    quaternions = quaternion_from_rotation(turn)
    for i, name in enumerate(scene.names):
        kind, parameters = join_parameters(
            scene.cameras.focal[i].tolist(),
            scene.cameras.center[i].tolist(),
            scene.cameras.lenses[i],
        )
        width, height = scene.cameras.size[i].tolist()
        cameras[i + 1] = Camera(kind, width, height, tuple(parameters))
        file = f"{Path(name).stem}_{i:04d}.png"
        save_picture(scene.images, i, folder / "images" / file)
        none = np.empty((0, 2)), np.empty(0, np.int64)
        images.append(
            Image(
                i + 1, tuple(quaternions[i].tolist()), tuple(shift[i].tolist()), i + 1, file, *none
            )
        )
    write_cameras(model / f"cameras{ending}", cameras)
    write_images(model / f"images{ending}", images)
    xyz = np.empty((0, 3)) if scene.points is None else scene.points.double().numpy()
    colors = scene.point_colors
    rgb = np.full(xyz.shape, 128, np.uint8) if colors is None else colors.numpy()
    ids = np.arange(1, len(xyz) + 1, dtype=np.uint64)
    write_points3d(model / f"points3D{ending}", Points(ids, xyz, rgb, np.full(len(xyz), -1.0)))
