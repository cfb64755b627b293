"""Saving the images of a scene, for the writers of all formats."""

from pathlib import Path

import numpy as np
from PIL import Image

from polyfield.datasets.images import Images
from polyfield.files import replacing

__all__ = ["save_picture"]


def save_picture(images: Images, i: int, path: Path) -> None:
    """Save one image as PNG: 8 bits, straight alpha, RGB only where no image of the scene has any alpha.

    Args:
        images: Of the scene.
        i: Which one.
        path: The file; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rgba = images.image(i).numpy()
    alpha = rgba[..., 3:]
    # What is fully transparent has no colour of its own.
    color = np.divide(rgba[..., :3], alpha, out=np.zeros_like(rgba[..., :3]), where=alpha > 0)
    straight = np.concatenate([color, alpha], -1) if images.has_alpha else color
    pixels = np.round(straight.clip(0, 1) * 255).astype(np.uint8)
    with replacing(path) as beside:
        Image.fromarray(pixels).save(beside, format="PNG")
