"""Fitting a function on the sphere, given as an image of longitude and latitude (such as a map or a panorama)."""

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from polyfield.config import to_json
from polyfield.datasets.picture_source import PictureSource
from polyfield.fields.model import Model
from polyfield.fields.signal import Globe
from polyfield.training.fit_image import compare_picture, load, protocol

__all__ = [
    "MODEL",
    "GlobeBatches",
    "batches",
    "domain",
    "load",
    "measure",
    "protocol",
]

_MOST_POINTS = 1 << 20  # that parts are placed by

MODEL = "sphere"
"""Kind of the models."""


def domain(image: PictureSource) -> dict[str, Any]:
    """Describe what the field is defined on."""
    return to_json(Globe(image.width, image.height, image.channels))  # type: ignore[no-any-return]


class GlobeBatches:
    """Pixels of the image, drawn so that equal areas of the sphere count alike.

    Where the image says `every`, the pixel at the upper left of each square of so many stands for all of them.
    """

    def __init__(self, image: PictureSource) -> None:
        self._image = image

    def next(self, step: int, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw `count` pixels, one out of each of as many rings of equal area, from north to south."""
        del step  # all of them draw alike
        image = self._image
        shift, across = torch.rand(2, count, generator=generator, dtype=torch.float64)
        height = 1.0 - 2.0 * (torch.arange(count) + shift) / count  # sine of the latitude
        down = (0.5 - height.asin() / math.pi) * image.height
        row = down.long().clamp_(max=image.height - 1)
        column = (across * image.width).long().clamp_(max=image.width - 1)
        ids = (row - row % image.every) * image.width + column - column % image.every
        return Globe.points(ids, image.width, image.height), image.values(ids)

    def weighted(self) -> tuple[Float[Tensor, "M 3"], Float[Tensor, " M"], Float[Tensor, "3"]]:
        """Give pixels, weighed by their area and how much the image changes there, and the unit cube."""
        image = self._image
        numbers = torch.arange(0, image.seen, -(-image.seen // _MOST_POINTS))
        ids = image.seen_ids(numbers)
        weights = image.thinned().edges()[numbers] * _areas(image)[ids // image.width]
        return Globe.points(ids, image.width, image.height), weights, torch.ones(3)


def batches(image: PictureSource) -> GlobeBatches:
    """Make what trains the field."""
    return GlobeBatches(image)


def measure(model: Model, image: PictureSource, pictures: Path | None) -> dict[str, Any]:
    """Compare the field's picture with the image: see `compare_picture`, pixels counting by their area."""
    return compare_picture(model, image, pictures, _areas(image))


def _areas(image: PictureSource) -> Float[Tensor, " H"]:
    """Area of a pixel of each row, but for a factor."""
    latitude = (0.5 - (torch.arange(image.height) + 0.5) / image.height) * math.pi
    return latitude.cos()
