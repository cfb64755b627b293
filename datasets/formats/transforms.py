"""Scenes of instant-ngp and nerfstudio: one transforms.json, possibly with distortion, masks and a split.

Frames whose image does not exist are skipped, as instant-ngp does, but they are listed. `aabb_scale` (and `scale` and
`offset`) declare instant-ngp's cube: its unit cube, [0, 1]^3 = data * scale + offset, is the subject, and the scene
goes on to `aabb_scale` times that.

Sources: the documentation of instant-ngp ("NeRF dataset tips") and of nerfstudio ("Data conventions").
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyfield.datasets.formats.frames import Frames, read_frames, to_gl
from polyfield.datasets.formats.pictures import save_picture
from polyfield.datasets.lenses import MODELS
from polyfield.datasets.points import read_points, write_points
from polyfield.datasets.posed import Posed, inside, listed, number
from polyfield.datasets.scene import SPLITS, Scene
from polyfield.errors import DataError, InputError
from polyfield.files import write_json

__all__ = ["detect", "read", "write"]

MISSING = "there is no transforms.json"

_NGP_SCALE = 0.33  # instant-ngp's default: data * 0.33 + 0.5 lies in its unit cube
_FILE = "transforms.json"


def detect(folder: Path) -> str | None:
    """Say why a folder is of this format, or None."""
    return f"it has a {_FILE}" if (folder / _FILE).is_file() else None


def read(folder: Path) -> Posed:
    """Read the cameras of an instant-ngp or nerfstudio scene.

    Raises:
        DataError: The file is broken, or none of its images is there.
    """
    frames = read_frames(folder / _FILE)
    warnings = list(frames.warnings)
    if frames.missing:
        warnings.append(
            f"{len(frames.missing)} frames of {_FILE} have no image and are skipped:"
            f" {listed(frames.missing)}."
        )
    points, colors = None, None
    if frames.meta.get("ply_file_path") is not None:
        ply = folder / inside(folder, frames.meta["ply_file_path"], _FILE)
        if ply.is_file():
            points, colors = read_points(ply)
        else:
            warnings.append(f"The points {frames.meta['ply_file_path']} do not exist.")
    cube, reach = _cube(frames.meta)
    return Posed(
        format="transforms",
        reason=detect(folder) or "it was asked for",
        cameras=frames.cameras,
        paths=frames.paths,
        names=frames.names,
        masks=frames.masks,
        split=_split(frames, warnings),
        points=points,
        point_colors=colors,
        cube=cube,
        cube_reach=reach,
        notes=frames.notes,
        warnings=tuple(warnings),
    )


def _cube(
    meta: Mapping[str, Any],
) -> tuple[tuple[tuple[float, float, float], tuple[float, float, float]] | None, float]:
    """Read the region that the file declares as its subject, in data units."""
    if not any(meta.get(key) is not None for key in ("aabb_scale", "scale", "offset")):
        return None, 1.0
    scale = number(meta.get("scale", _NGP_SCALE), "scale", _FILE)
    offset = meta.get("offset", [0.5, 0.5, 0.5])
    if not isinstance(offset, list) or len(offset) != 3:
        raise DataError(f"{_FILE}: offset must be a list of 3 numbers.")
    reach = number(meta.get("aabb_scale", 1), "aabb_scale", _FILE)
    if scale <= 0 or not 1 <= reach <= 128:
        raise DataError(f"{_FILE}: scale must be above 0 and aabb_scale between 1 and 128.")
    x, y, z = (number(value, "offset", _FILE) for value in offset)
    low = (-x / scale, -y / scale, -z / scale)
    high = ((1 - x) / scale, (1 - y) / scale, (1 - z) / scale)
    return (low, high), reach


def _split(frames: Frames, warnings: list[str]) -> dict[str, tuple[int, ...]] | None:
    """Read nerfstudio's lists of file names; None where there are none."""
    lists = {name: frames.meta.get(f"{name}_filenames") for name in SPLITS}
    if all(value is None for value in lists.values()):
        return None
    number_of = {name: i for i, name in enumerate(frames.declared)}
    split: dict[str, tuple[int, ...]] = {}
    for name, value in lists.items():
        if value is not None and not isinstance(value, list):
            raise DataError(f"{_FILE}: {name}_filenames must be a list of file names.")
        files = [inside(Path("."), file, _FILE) for file in value or ()]
        for file in files:
            if file not in number_of and file not in frames.missing:
                raise DataError(f"{_FILE}: {name}_filenames has {file}, which no frame names.")
        split[name] = tuple(dict.fromkeys(number_of[file] for file in files if file in number_of))
    for one, other in (("train", "test"), ("train", "val")):
        if both := set(split[one]) & set(split[other]):
            names = listed(sorted(frames.names[i] for i in both))
            raise DataError(f"{_FILE}: {names} is in both {one}_filenames and {other}_filenames.")
    left = len(frames.names) - len(set().union(*split.values()))
    if left:
        warnings.append(f"{left} frames of {_FILE} are in none of its splits and are not used.")
    return split


def write(scene: Scene, folder: Path) -> None:
    """Write a scene in this format, images as PNG, its split and points with it.

    Raises:
        InputError: A lens that the format cannot name.
    """
    cameras, frames = scene.cameras, []
    for i, pose in enumerate(to_gl(cameras.world_from_camera)):
        name = f"images/{Path(scene.names[i]).stem}_{i:04d}.png"
        save_picture(scene.images, i, folder / name)
        (fx, fy), (cx, cy) = cameras.focal[i].tolist(), cameras.center[i].tolist()
        width, height = cameras.size[i].tolist()
        frame = {"file_path": name, "w": width, "h": height}
        frame |= {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, **_lens(scene, i)}
        frames.append({**frame, "transform_matrix": pose})
    meta: dict[str, Any] = {
        f"{name}_filenames": [frames[i]["file_path"] for i in scene.split.get(name, ())]
        for name in SPLITS
    }
    if scene.points is not None:
        write_points(folder / "points.ply", scene.points, scene.point_colors)
        meta["ply_file_path"] = "points.ply"
    write_json(folder / _FILE, {**meta, "frames": frames})


def _lens(scene: Scene, i: int) -> dict[str, Any]:
    lens = scene.cameras.lenses[i]
    model = "PINHOLE" if lens.straight else lens.model
    known = ("PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE")
    if model not in known:
        raise InputError(
            f"A transforms file cannot hold the camera model {model} of {scene.names[i]}."
        )
    names = ["k1" if name == "k" else name for name in MODELS[model].coefficients]
    return {"camera_model": model, **dict(zip(names, lens.coefficients, strict=False))}
