"""One image as something to fit: its pixels as points of the unit square with values.

Values are sRGB in [0, 1] of an ordinary image, linear and unbounded of an EXR file; with transparency, colour
multiplied by alpha, and alpha. Pixels stay as the file holds them, 8-bit or float; where that is more than the memory
that they may take, they lie in a temporary file and are read from there as they are asked for.
"""

import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from polyfield.datasets.decode import read_pixels
from polyfield.datasets.exr import read_exr
from polyfield.datasets.fingerprint import file_fingerprint
from polyfield.errors import DataError

__all__ = ["PictureSource", "load_picture"]

_BAND = 1 << 20  # pixels worked on at once
_LARGEST = 1e15  # value: the squares of errors stay finite


@dataclass(frozen=True)
class PictureSource:
    """The pixels of an image, row by row.

    Attributes:
        name: Of the file.
        width, height: In pixels.
        pixels: [H W, C], C 3 or 4, uint8 (a value is 1/255 of it) or float32; alpha, if there, straight.
        fingerprint: Of the file.
        every: Fields learn from the pixels of each so-many-th row and column, from the first on; 1: from all.
    """

    name: str
    width: int
    height: int
    pixels: np.ndarray
    fingerprint: str
    every: int = 1

    def __len__(self) -> int:
        return self.width * self.height

    @property
    def seen(self) -> int:
        """Number of pixels that fields learn from."""
        return -(-self.width // self.every) * -(-self.height // self.every)

    def seen_ids(self, numbers: Int64[Tensor, " N"]) -> Int64[Tensor, " N"]:
        """Which pixels those are that fields learn from.

        Args:
            numbers: In 0..seen - 1, counted row by row.

        Example:
            >>> black = np.zeros((15, 3), np.uint8)
            >>> PictureSource("five by three", 5, 3, black, "", every=2).seen_ids(torch.arange(6)).tolist()
            [0, 2, 4, 10, 12, 14]
        """
        if self.every == 1:
            return numbers
        across = -(-self.width // self.every)
        return (numbers // across * self.width + numbers % across) * self.every

    def thinned(self) -> "PictureSource":
        """The smaller image of the pixels that fields learn from."""
        if self.every == 1:
            return self
        grid = self.pixels.reshape(self.height, self.width, -1)[:: self.every, :: self.every]
        height, width, channels = grid.shape
        flat = grid.reshape(height * width, channels)
        return replace(self, width=width, height=height, pixels=flat, every=1)

    @property
    def channels(self) -> int:
        """C."""
        return int(self.pixels.shape[1])

    @cached_property
    def peak(self) -> float:
        """What PSNR takes for the largest value: 1, or the largest one where the file goes beyond."""
        if self.pixels.dtype == np.uint8:
            return 1.0
        bands = (self.values(slice(i, i + _BAND)) for i in range(0, len(self), _BAND))
        return max(1.0, *(float(band.max()) for band in bands))

    def values(self, ids: Int64[Tensor, " N"] | slice) -> Float[Tensor, "N C"]:
        """Values of pixels, colour multiplied by alpha.

        Args:
            ids: Which: row * width + column.
        """
        chosen = self.pixels[ids if isinstance(ids, slice) else ids.numpy()]
        values = torch.from_numpy(np.ascontiguousarray(chosen)).float()
        if self.pixels.dtype == np.uint8:
            values /= 255.0
        if self.channels == 4:  # not in place: a slice of floats is the image itself
            color, alpha = values.split([3, 1], 1)
            values = torch.cat([color * alpha, alpha], 1)
        return values

    def points(self, ids: Int64[Tensor, " N"]) -> Float[Tensor, "N 2"]:
        """Centres of pixels in the unit square: x to the right, y down."""
        size = torch.tensor([self.width, self.height])
        place = torch.stack([ids % self.width, ids // self.width], 1)
        return (place.float() + 0.5) / size

    def edges(self) -> Float[Tensor, " HW"]:
        """How much the values change around each pixel: root of the sum of squares of Sobel's two filters.

        Over all channels; at the border the outermost pixels go on.
        """
        result = torch.empty(self.height, self.width)
        rows = max(1, _BAND // self.width)
        for first in range(0, self.height, rows):
            last = min(self.height, first + rows)
            low, high = max(first - 1, 0), min(last + 1, self.height)
            band = self.values(slice(low * self.width, high * self.width))
            band = band.view(high - low, self.width, -1).permute(2, 0, 1)
            band = torch.nn.functional.pad(
                band, (1, 1, int(first == 0), int(last == self.height)), mode="replicate"
            )
            across = band[:, :-2] + 2 * band[:, 1:-1] + band[:, 2:]
            down = band[:, :, :-2] + 2 * band[:, :, 1:-1] + band[:, :, 2:]
            x = across[:, :, 2:] - across[:, :, :-2]
            y = down[:, 2:] - down[:, :-2]
            result[first:last] = (x.square() + y.square()).sum(0).sqrt()
        return result.view(-1)


def load_picture(path: Path | str, memory: float = 2**30) -> PictureSource:
    """Read an image file.

    Args:
        path: PNG, JPEG, WEBP, BMP, TIFF, PPM, or EXR. Of 16-bit channels the upper 8 bits are kept; an alpha channel
            that is opaque everywhere is dropped.
        memory: Bytes that its pixels may take; larger ones go to a temporary file.

    Raises:
        DataError: The file is missing, no image, damaged, or of colours that a screen does not have.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no image {path}.")
    pixels = read_exr(path) if path.suffix.lower() == ".exr" else read_pixels(path)
    height, width, channels = pixels.shape
    opaque = 255 if pixels.dtype == np.uint8 else 1.0
    if channels == 4 and (pixels[..., 3] == opaque).all():
        pixels = np.ascontiguousarray(pixels[..., :3])
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise DataError(f"The image {path} has pixels that are not finite; mend it first.")
    if max(-low, high) > _LARGEST:
        raise DataError(
            f"The image {path} has values beyond {_LARGEST:g}, whose squares are not finite; scale it down."
        )
    flat = pixels.reshape(height * width, -1)
    kept = _kept(flat, memory)
    return PictureSource(path.name, width, height, kept, file_fingerprint(path))


def _kept(pixels: np.ndarray, memory: float) -> np.ndarray:
    """Keep pixels in memory, or in a file without a name that goes when they do."""
    if pixels.nbytes <= memory:
        return pixels
    with tempfile.TemporaryFile() as file:
        kept = np.memmap(file, dtype=pixels.dtype, mode="w+", shape=pixels.shape)
    kept[:] = pixels
    kept.flush()
    return kept
