"""Fitting an image: its pixels as batches, and how good the field's picture is."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from polyfield.config import to_json
from polyfield.datasets.images import free_memory
from polyfield.datasets.picture_source import PictureSource, load_picture
from polyfield.datasets.pictures import save_png
from polyfield.fields.model import Model
from polyfield.fields.signal import Picture
from polyfield.renderers.picture import draw_picture
from polyfield.training.metrics import psnr, ssim

__all__ = [
    "MODEL",
    "PixelBatches",
    "batches",
    "domain",
    "load",
    "measure",
    "on_white",
    "protocol",
]

_SHARE = 0.25  # of the memory that is free, for the pixels
_MOST_POINTS = 1 << 22  # that parts are placed by
_MOST_COMPARED = 1 << 24  # pixels of a picture that SSIM is computed of
_ERROR_GAIN = 10.0  # of the picture of errors

MODEL = "image"
"""Kind of the models."""


def load(file: Path | str) -> PictureSource:
    """Read the image."""
    return load_picture(file, _SHARE * free_memory())


def domain(image: PictureSource) -> dict[str, Any]:
    """Describe what the field is defined on."""
    return to_json(Picture(image.width, image.height, image.channels))  # type: ignore[no-any-return]


class PixelBatches:
    """The pixels of an image in batches: one out of each stretch of the image, so that all of it counts every time.

    Pixels come in the order in which they lie, which a file that is larger than the memory asks for.
    """

    def __init__(self, image: PictureSource) -> None:
        self._image = image
        self._all: tuple[Tensor, Tensor] | None = None

    def next(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw `count` pixels, or give all where there are no more."""
        image, total = self._image, len(self._image)
        if count >= total:
            if self._all is None:
                ids = torch.arange(total)
                self._all = image.points(ids), image.values(ids)
            return self._all
        shift = torch.rand(count, generator=generator, dtype=torch.float64)
        ids = ((torch.arange(count) + shift) * (total / count)).long().clamp_(max=total - 1)
        return image.points(ids), image.values(ids)

    def weighted(self) -> tuple[Float[Tensor, "M 2"], Float[Tensor, " M"], Float[Tensor, "2"]]:
        """Give pixels, weighed by how much the image changes there, and the shape of the image."""
        image = self._image
        every = -(-len(image) // _MOST_POINTS)
        ids = torch.arange(0, len(image), every)
        extent = torch.tensor([float(image.width), float(image.height)])
        return image.points(ids), image.edges()[ids], extent / extent.max()


def batches(image: PictureSource) -> PixelBatches:
    """Make what trains the field."""
    return PixelBatches(image)


def measure(model: Model, image: PictureSource, pictures: Path | None) -> dict[str, Any]:
    """Compare the field's picture with the image.

    Values are clamped to what the image can hold. With transparency both are put on white.

    Args:
        model: Of kind "image".
        image: What it should look like.
        pictures: Folder for the picture, and for its error ten times enlarged; None: not written.
    """
    truth = image.values(slice(None)).view(image.height, image.width, -1)
    seen = draw_picture(model, image.width, image.height)
    seen, truth = on_white(seen, image), on_white(truth, image)
    if pictures is not None:
        save_png(pictures / "reconstruction.png", seen)
        save_png(pictures / "error.png", (seen - truth).abs() * _ERROR_GAIN)
    compared = seen.shape[0] * seen.shape[1] <= _MOST_COMPARED
    return {"psnr": psnr(seen, truth), "ssim": ssim(seen, truth) if compared else None}


def on_white(values: Float[Tensor, "H W C"], image: PictureSource) -> Float[Tensor, "H W 3"]:
    """Turn values of the image, or of a field of it, into a picture in [0, 1]: clamped, transparency on white."""
    values = values.clamp(0.0, image.peak)
    if image.channels == 4:
        values = values[..., :3] + (1.0 - values[..., 3:])
    return values / image.peak


def protocol(image: PictureSource) -> dict[str, Any]:
    """Say under which conditions was measured."""
    return {"width": image.width, "height": image.height, "peak": image.peak}
