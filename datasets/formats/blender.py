"""Scenes rendered by Blender: transforms_train.json, transforms_val.json, transforms_test.json (NeRF-Synthetic).

Images are RGBA with straight alpha; `file_path` leaves out the ending; one `camera_angle_x` a file.

Source: B. Mildenhall et al., "NeRF" (2020), the data set's own files.
"""

import math
from pathlib import Path

import torch

from polyfield.datasets.formats.frames import Frames, joined, read_frames, to_gl
from polyfield.datasets.formats.pictures import save_picture
from polyfield.datasets.posed import Posed, listed, refuse_duplicates
from polyfield.datasets.scene import SPLITS, Scene
from polyfield.errors import DataError, InputError
from polyfield.files import write_json

__all__ = ["detect", "read", "write"]

MISSING = "there is no transforms_train.json"


def detect(folder: Path) -> str | None:
    """Say why a folder is of this format, or None."""
    return "it has a transforms_train.json" if _file(folder, "train").is_file() else None


def read(folder: Path) -> Posed:
    """Read the cameras of a Blender scene.

    Raises:
        DataError: A file is broken, or an image is missing.
    """
    parts: list[Frames] = []
    split: dict[str, tuple[int, ...]] = {}
    at = 0
    for name in SPLITS:
        split[name] = ()
        if name != "train" and not _file(folder, name).is_file():
            continue
        part = read_frames(_file(folder, name), f"{name} views")
        if part.missing:
            raise DataError(
                f"{_file(folder, name)} names {len(part.missing)} images that do not exist:"
                f" {listed(part.missing)}."
            )
        parts.append(part)
        split[name] = tuple(range(at, at + len(part.names)))
        at += len(part.names)
    names = tuple(name for part in parts for name in part.names)
    refuse_duplicates(names, "The set of transforms files")
    return Posed(
        format="blender",
        reason=detect(folder) or "it was asked for",
        cameras=joined(part.cameras for part in parts),
        paths=tuple(path for part in parts for path in part.paths),
        names=names,
        masks=tuple(mask for part in parts for mask in part.masks),
        split=split,
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        warnings=tuple(warning for part in parts for warning in part.warnings),
    )


def write(scene: Scene, folder: Path) -> None:
    """Write a scene in this format, images as PNG.

    Raises:
        InputError: The cameras differ in more than their poses, or are no centred pinholes: this format cannot say so.
    """
    cameras = scene.cameras
    centred = torch.allclose(cameras.center, cameras.size.double() / 2, atol=1e-6)
    square = torch.allclose(cameras.focal, cameras.focal[:1, :1].expand_as(cameras.focal))
    if not (cameras.straight and centred and square):
        raise InputError(
            "The Blender format holds pinhole cameras with one focal length and centred axes; this scene has others."
        )
    poses = to_gl(cameras.world_from_camera)
    for name in SPLITS:
        frames: list[dict[str, object]] = []
        for i in scene.split.get(name, ()):
            file = f"{name}/r_{len(frames)}"
            save_picture(scene.images, i, folder / f"{file}.png")
            frames.append({"file_path": f"./{file}", "transform_matrix": poses[i]})
        if frames:
            i = scene.split[name][0]
            width, focal = float(cameras.size[i, 0]), float(cameras.focal[i, 0])
            angle = 2 * math.atan(0.5 * width / focal)
            write_json(_file(folder, name), {"camera_angle_x": angle, "frames": frames})


def _file(folder: Path, split: str) -> Path:
    return folder / f"transforms_{split}.json"
