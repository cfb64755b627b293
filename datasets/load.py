"""Loading a scene: the format is found by looking, its cameras are read, then its images."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch

from polyfield.datasets.posed import Posed
from polyfield.datasets.region import choose_region
from polyfield.datasets.wishes import whole_number
from polyfield.errors import DataError, InputError, nearest

if TYPE_CHECKING:
    from polyfield.datasets.image_source import MaskMeaning
    from polyfield.datasets.scene import Scene

__all__ = ["FORMATS", "load_scene", "read_posed", "scene_fingerprint", "split_by_name"]

FORMATS = ("blender", "transforms", "colmap", "llff")  # in this order they are looked for

_HELD_OUT = (
    8  # every 8th image by name is a test view where the files say nothing (as NeRF-LLFF does)
)


def load_scene(
    path: Path | str | None,
    *,
    format: str | None = None,
    downscale: int = 1,
    threads: int | None = None,
    memory_budget: int | None = None,
    masks: "MaskMeaning" = "ignore",
) -> "Scene":
    """Load posed images of any supported format.

    Args:
        path: The scene's folder; None or "builtin" for the built-in scene.
        format: One of `FORMATS`, to overrule the choice that is made by looking; not for the built-in scene.
        downscale: K >= 1: K x K pixels become one.
        threads: Files decoded at a time; None for one a processor.
        memory_budget: Bytes that pixels may take; None for half of what is free.
        masks: What lies outside the masks, where there are any: "ignore" (nothing is known there) or "empty" (nothing
            is there).

    Raises:
        InputError: There is no such folder, nothing in it is understood, or a number is out of its range.
        DataError: The files are broken.

    Example:
        >>> scene = load_scene("builtin", downscale=8)
        >>> scene.format, len(scene.names)
        ('builtin', 60)
    """
    downscale = whole_number(downscale, "--downscale", 1)
    if threads is not None:
        threads = whole_number(threads, "--threads", 1)
    if masks not in ("ignore", "empty"):
        raise InputError(f"masks must be 'ignore' or 'empty', but is {masks!r}.")
    if path is None or str(path) == "builtin":
        if format not in (None, "builtin"):
            raise InputError(
                f"--format {format} is for scenes in folders, but the built-in scene was asked for."
            )
        builtin: ModuleType = import_module("polyfield.datasets.builtin")
        scene: Scene = builtin.builtin_scene(downscale=downscale)
        return scene
    if not str(path):
        raise InputError("The path of the scene is empty; name a folder, or 'builtin'.")
    folder = Path(path)
    posed = read_posed(folder, format)
    return _with_images(folder, posed, downscale, threads, memory_budget, masks)


def read_posed(path: Path | str, format: str | None = None) -> Posed:
    """Read the cameras of a scene and the headers of its images, but no pixels.

    Args:
        path: The scene's folder.
        format: One of `FORMATS`, or None to find it by looking.

    Raises:
        InputError: There is no such folder, or nothing in it is understood.
        DataError: The files are broken.
    """
    folder = Path(path)
    if format is not None and format not in FORMATS:
        raise InputError(f"--format: there is no format {format!r}.{nearest(format, FORMATS)}")
    try:
        if not folder.exists():
            raise InputError(f"There is no scene {folder}: no such folder.")
        if not folder.is_dir():
            raise InputError(f"{folder} is a file; a scene is a folder. Give the one it lies in.")
        empty = next(folder.iterdir(), None) is None
        for name in FORMATS if format is None else (format,):
            module = _format(name)
            if module.detect(folder) is not None:
                posed: Posed = module.read(folder)
                return posed
    except OSError as error:
        raise InputError(f"{error.filename or folder} cannot be read: {error.strerror}.") from None
    if empty:
        raise InputError(f"The folder {folder} is empty.")
    if format is not None:
        raise InputError(f"{folder} is not of the format {format}: {_format(format).MISSING}.")
    raise InputError(
        f"Nothing in {folder} is a known scene format. Looked for transforms_train.json, transforms.json,"
        " a COLMAP model (sparse/0 with cameras and images, and the pictures in images/) and poses_bounds.npy."
    )


def scene_fingerprint(path: Path | str | None) -> str:
    """Give the fingerprint that `load_scene` gives a scene, without decoding its images.

    Args:
        path: As of `load_scene`.

    Raises:
        InputError: There is no such folder, or nothing in it is understood.
        DataError: The files are broken.
    """
    from polyfield.datasets.builtin import builtin_fingerprint
    from polyfield.datasets.image_source import image_digest
    from polyfield.datasets.scene import fingerprint

    if path is None or str(path) == "builtin":
        return builtin_fingerprint()
    posed = read_posed(path)
    digests = [image_digest(*files) for files in zip(posed.paths, posed.masks, strict=True)]
    return fingerprint(posed.names, posed.cameras, digests)


def split_by_name(names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Hold out every 8th image, counted in the order of the names as text, from the first.

    Example:
        >>> split_by_name(["b", "a", "c"])
        {'train': (0, 2), 'val': (), 'test': (1,)}
    """
    order = sorted(range(len(names)), key=lambda i: names[i])
    return {
        "train": tuple(i for at, i in enumerate(order) if at % _HELD_OUT),
        "val": (),
        "test": tuple(order[::_HELD_OUT]),
    }


def _format(name: str) -> ModuleType:
    return import_module(f"polyfield.datasets.formats.{name}")


def _with_images(
    folder: Path,
    posed: Posed,
    downscale: int,
    threads: int | None,
    memory_budget: int | None,
    masks: "MaskMeaning",
) -> "Scene":
    from polyfield.datasets.images import Images
    from polyfield.datasets.scene import Scene, fingerprint

    split, holdout, warnings = _split(posed)
    images = Images.load(
        posed.paths,
        sizes=posed.cameras.size.numpy(),
        masks=posed.masks if any(posed.masks) else None,
        mask_meaning=masks if any(posed.masks) else None,
        downscale=downscale,
        threads=threads,
        memory_budget=memory_budget,
    )
    region = choose_region(posed, images.has_alpha)
    reason = f"The format is {posed.format}: {posed.reason}."
    return Scene(
        name=folder.resolve().name,
        path=folder,
        format=posed.format,
        reason=" ".join((reason, *posed.notes, region.why)),
        cameras=posed.cameras.resized(downscale),
        images=images,
        names=posed.names,
        split=split,
        box=region.box,
        near=region.near,
        far=region.far,
        unbounded=region.unbounded,
        forward_facing=region.forward_facing,
        points=posed.points,
        point_colors=posed.point_colors,
        world_from_data=torch.eye(4, dtype=torch.float64),
        warnings=(*posed.warnings, *warnings),
        fingerprint=fingerprint(posed.names, posed.cameras, images.digests()),
        holdout=holdout,
    )


def _split(posed: Posed) -> tuple[Mapping[str, tuple[int, ...]], str, list[str]]:
    """Take the file's own split, else hold out every 8th image."""
    if posed.split is None:
        split: Mapping[str, tuple[int, ...]] = split_by_name(posed.names)
        holdout = f"every {_HELD_OUT}th of {len(posed.names)} images by name, from the first"
    else:
        split, holdout = posed.split, "the file's own split"
    if not split["train"]:
        raise DataError(
            f"The scene has {len(posed.names)} images, but none of them to train on"
            f" (test views: {len(split['test'])})."
        )
    warnings = [] if split["test"] else ["There are no test views: a run cannot be evaluated."]
    return split, holdout, warnings
