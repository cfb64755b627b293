"""A scene: posed images, the region they show, and how it all came to be known."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from polyfield.datasets.cameras import Cameras
from polyfield.datasets.images import Images
from polyfield.datasets.posed import FARTHEST
from polyfield.errors import DataError, InputError, nearest

__all__ = ["Scene", "fingerprint", "fingerprint_difference"]

SPLITS = ("train", "val", "test")

# Least width of the region over its coordinates: float32 tells but 16 places in it apart.
_NARROWEST = 2.0**-20


@dataclass(frozen=True, eq=False)
class Scene:
    """Posed images of one place.

    Attributes:
        name: Of the folder, or "builtin".
        path: Where it was read from; None for the built-in scene.
        format: "blender", "transforms", "colmap", "llff" or "builtin".
        reason: Why this format was chosen and how the region was, in sentences.
        cameras: One for each image, at the images' sizes (after downscaling).
        images: The pictures.
        names: File name of each image, relative to the scene; unique.
        split: Image numbers for "train", "val" and "test"; only "train" is never empty.
        box: Lowest and highest corner of the region of interest, which deserves the finest detail.
        near: Distance from the cameras before which there is nothing.
        far: Distance after which nothing needs to be told apart.
        unbounded: Whether there is something to see outside the box.
        forward_facing: Whether all cameras look the same way, so that nobody sees the scene from behind.
        points: Known surface points, or None.
        point_colors: Their colours, or None.
        world_from_data: From the coordinates of the files to the world here; the identity unless a format forces
            another.
        warnings: Sentences that the user should see.
        fingerprint: The same for the same images in the same poses, wherever the folder lies.
        holdout: How the test views were chosen, for the protocol of a metrics file.

    Raises:
        DataError: Poses, box, near or far are not finite or beyond what can be computed with in float32.
    """

    name: str
    path: Path | None
    format: str
    reason: str
    cameras: Cameras
    images: Images
    names: tuple[str, ...]
    split: Mapping[str, tuple[int, ...]]
    box: Float64[Tensor, "2 3"]
    near: float
    far: float
    unbounded: bool
    forward_facing: bool
    points: Float[Tensor, "P 3"] | None
    point_colors: UInt8[Tensor, "P 3"] | None
    world_from_data: Float64[Tensor, "4 4"]
    warnings: tuple[str, ...]
    fingerprint: str
    holdout: str

    def __post_init__(self) -> None:
        poses = self.cameras.world_from_camera
        side, corner = float((self.box[1] - self.box[0]).min()), float(self.box.abs().max())
        most = float(torch.cat([self.box.flatten(), poses.flatten()]).abs().max())
        least = max(1 / FARTHEST, min(corner, FARTHEST) * _NARROWEST)
        if not most <= FARTHEST or not side >= least:  # so that what is no number is refused too
            raise DataError(
                f"The scene {self.name} is too large, too small or too far from the origin: its region is {side:.3g} "
                f"wide, and coordinates go up to {most:.3g}, but must stay within {FARTHEST:g} and leave a width of "
                f"{least:.3g} at least. Move or rescale the poses, and mend the region if the files declare one."
            )
        if not 0 <= self.near < self.far < math.inf:
            raise DataError(
                f"The scene {self.name} must have 0 <= near < far, both finite, but they are {self.near:.3g} and "
                f"{self.far:.3g}; mend the depths that its files declare."
            )

    def views(self, split: str) -> tuple[int, ...]:
        """Give the image numbers of a split.

        Raises:
            InputError: There is no such split, or it is empty.
        """
        if split not in self.split:
            raise InputError(f"There is no split {split!r}.{nearest(split, self.split)}")
        if not self.split[split]:
            filled = ", ".join(name for name in SPLITS if self.split.get(name))
            raise InputError(
                f"The scene {self.name} has no views in its split {split!r}; it has some in: {filled}."
            )
        return self.split[split]


def fingerprint(names: Sequence[str], cameras: Cameras, contents: Sequence[bytes]) -> str:
    """Hash the names, sizes, intrinsics and poses of images, and what they show; no place on the disk.

    Poses are rounded, so that the last bit of another machine's arithmetic changes nothing.

    Args:
        names: Of the images.
        cameras: Theirs, at full size.
        contents: A hash of each image's content, as `Images.digests` gives it.

    Returns:
        16 hexadecimal digits for the cameras, a hyphen, and 16 for the pixels.
    """
    digest, pixels = hashlib.sha256(), hashlib.sha256()
    numbers = np.concatenate(
        [
            cameras.world_from_camera.reshape(len(cameras), 12).numpy(),
            cameras.focal.numpy(),
            cameras.center.numpy(),
            cameras.size.double().numpy(),
        ],
        axis=1,
    )
    for i in sorted(range(len(names)), key=lambda i: names[i]):
        row = " ".join(f"{value + 0.0:.5e}" for value in np.round(numbers[i], 5))
        line = f"{names[i]}\0{cameras.lenses[i]}\0{row}\n"
        digest.update(line.encode(errors="surrogateescape"))  # a name on the disk is any bytes
        pixels.update(hashlib.sha256(contents[i]).digest())
    return f"{digest.hexdigest()[:16]}-{pixels.hexdigest()[:16]}"


def fingerprint_difference(recorded: str, found: str) -> str | None:
    """Say in what two scenes differ, by their fingerprints; None: in nothing that both know.

    Fingerprints of older runs end before the hyphen: those know nothing of pixels.

    Example:
        >>> fingerprint_difference("1f-aa", "1f-bb")
        'pixels of its images'
        >>> fingerprint_difference("1f", "1f-bb") is None
        True
    """
    cameras, _, pixels = recorded.partition("-")
    found_cameras, _, found_pixels = found.partition("-")
    if cameras != found_cameras:
        return "poses, names or sizes of its images"
    if pixels and found_pixels and pixels != found_pixels:
        return "pixels of its images"
    return None
