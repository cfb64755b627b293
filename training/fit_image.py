"""Fitting an image: its pixels as batches, and how good the field's picture is."""

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from polyfield.config import to_json
from polyfield.datasets.images import free_memory
from polyfield.datasets.picture_source import PictureSource, load_picture
from polyfield.datasets.pictures import save_png
from polyfield.fields.model import Model
from polyfield.fields.signal import Picture
from polyfield.renderers.picture import draw_picture
from polyfield.training.metrics import BEST_PSNR, ssim

__all__ = [
    "MODEL",
    "PixelBatches",
    "batches",
    "compare_picture",
    "domain",
    "load",
    "measure",
    "on_white",
    "protocol",
]

_SHARE = 0.25  # of the memory that is free, for the pixels
_MOST_POINTS = 1 << 22  # that parts are placed by
_MOST_COMPARED = 1 << 24  # pixels of a picture that SSIM is computed of
_BAND = 1 << 20  # pixels compared at once
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

    Pixels come in the order in which they lie, which a file that is larger than the memory asks for. Where the image
    says `every`, only those in every so-many-th row and column are drawn.
    """

    def __init__(self, image: PictureSource) -> None:
        self._image = image
        self._all: tuple[Tensor, Tensor] | None = None

    def next(self, step: int, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw `count` pixels, or give all where there are no more."""
        del step  # all of them draw alike
        image, total = self._image, self._image.seen
        if count >= total:
            if self._all is None:
                ids = image.seen_ids(torch.arange(total))
                self._all = image.points(ids), image.values(ids)
            return self._all
        shift = torch.rand(count, generator=generator, dtype=torch.float64)
        numbers = ((torch.arange(count) + shift) * (total / count)).long().clamp_(max=total - 1)
        ids = image.seen_ids(numbers)
        return image.points(ids), image.values(ids)

    def weighted(self) -> tuple[Float[Tensor, "M 2"], Float[Tensor, " M"], Float[Tensor, "2"]]:
        """Give pixels, weighed by how much the image changes there, and the shape of the image."""
        image = self._image
        numbers = torch.arange(0, image.seen, -(-image.seen // _MOST_POINTS))
        extent = torch.tensor([float(image.width), float(image.height)])
        edges = image.thinned().edges()[numbers]
        return image.points(image.seen_ids(numbers)), edges, extent / extent.max()


def batches(image: PictureSource) -> PixelBatches:
    """Make what trains the field."""
    return PixelBatches(image)


def measure(model: Model, image: PictureSource, pictures: Path | None) -> dict[str, Any]:
    """Compare the field's picture with the image: see `compare_picture`, each pixel counting alike."""
    return compare_picture(model, image, pictures, torch.ones(image.height))


def compare_picture(
    model: Model, image: PictureSource, pictures: Path | None, weights: Float[Tensor, " H"]
) -> dict[str, Any]:
    """Compare the picture that a field gives with an image.

    Values are clamped to what the image can hold. Of both, what has transparency is put on white.

    Args:
        model: Of an image or a sphere.
        image: What it should look like.
        pictures: Folder for the picture, and for its error ten times enlarged; None: not written.
        weights: How much the pixels of a row count in PSNR.

    Returns:
        "psnr", at most 100, and "ssim"; None for a picture of more than 2^24 pixels, of which no picture is written.
        Where the field learnt from every so-many-th pixel, also "psnr_unseen", of the others; None if there are none.
    """
    band = max(1, _BAND // image.width)
    drawn = []
    small = len(image) <= _MOST_COMPARED
    all_pixels, unseen = _Mean(), _Mean()
    for first in range(0, image.height, band):
        rows = slice(first, min(first + band, image.height))
        seen = on_white(draw_picture(model, image.width, image.height, rows), image)
        pixels = slice(first * image.width, rows.stop * image.width)
        truth = on_white(image.values(pixels).view(seen.shape[0], image.width, -1), image)
        squares = (seen.double() - truth.double()).square().mean(2)
        counts = weights[rows, None].double().expand_as(squares)
        all_pixels.add(squares, counts)
        unseen.add(squares, counts * _unseen(image, rows))
        if small:
            drawn.append((seen, truth))
    quality: dict[str, Any] = {"psnr": all_pixels.decibels(), "ssim": None}
    if image.every > 1:
        quality["psnr_unseen"] = unseen.decibels()
    if small:
        seen, truth = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        quality["ssim"] = ssim(seen, truth)
        if pictures is not None:
            save_png(pictures / "reconstruction.png", seen)
            save_png(pictures / "error.png", (seen - truth).abs() * _ERROR_GAIN)
    return quality


class _Mean:
    """A weighted mean of squared errors that grows."""

    def __init__(self) -> None:
        self._sum = self._weight = 0.0

    def add(self, squares: Tensor, weights: Tensor) -> None:
        self._sum += float((squares * weights).sum())
        self._weight += float(weights.sum())

    def decibels(self) -> float | None:
        """PSNR of the mean; None of nothing."""
        if not self._weight:
            return None
        error = self._sum / self._weight
        return min(-10 * math.log10(error), BEST_PSNR) if error > 0 else BEST_PSNR


def _unseen(image: PictureSource, rows: slice) -> Bool[Tensor, "R W"]:
    """Which pixels of some rows the field did not learn from."""
    y = torch.arange(rows.start, rows.stop) % image.every != 0
    x = torch.arange(image.width) % image.every != 0
    return y[:, None] | x


def on_white(values: Float[Tensor, "H W C"], image: PictureSource) -> Float[Tensor, "H W 3"]:
    """Turn values of the image, or of a field, into a picture in [0, 1]: clamped, transparency on white.

    Only values of four channels have transparency: a field may have been fitted to another image than this.
    """
    values = values.clamp(0.0, image.peak)
    if values.shape[-1] == 4:
        values = values[..., :3] + (1.0 - values[..., 3:])
    return values / image.peak


def protocol(image: PictureSource) -> dict[str, Any]:
    """Say under which conditions was measured."""
    return {
        "width": image.width,
        "height": image.height,
        "peak": image.peak,
        "every": image.every,
    }
