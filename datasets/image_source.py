"""One image on its way into memory: decoded, masked, downscaled.

Stored forms, both [H, W, C] with C 3 (opaque) or 4: at full size uint8, straight colour, exactly the
file's values; downscaled int16, premultiplied colour, where `FULL` stands for 1.0.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int16, UInt8

from polyfield.datasets.decode import read_mask, read_pixels
from polyfield.errors import DataError

__all__ = ["FULL", "ImageSource", "MaskMeaning", "box_filtered", "image_digest"]

MaskMeaning = Literal["ignore", "empty"]

FULL = 32767

# Of what an image is told apart by: its size, and all of its bytes or, of more than this, pieces spread over them.
# Compressed pixels that differ anywhere differ from there on, or in length; 200 large photographs take 0.1 s.
_SAMPLE, _PIECES = 1 << 18, 16


@dataclass(frozen=True)
class ImageSource:
    """Where one image comes from and what is to be done to it.

    Attributes:
        name: What to call it in messages, as the subject of a sentence.
        size: Width and height that it must have, before downscaling.
        read: Decodes it to straight uint8.
        digest: Hashes its content without decoding it, the mask's included.
        mask: Decodes its mask, None where it has none.
        meaning: What outside of the mask means: "ignore" (weight 0) or "empty" (transparent).
    """

    name: str
    size: tuple[int, int]
    read: Callable[[], UInt8[np.ndarray, "H W C"]]
    digest: Callable[[], bytes]
    mask: Callable[[], UInt8[np.ndarray, "H W"]] | None = None
    meaning: MaskMeaning = "ignore"

    @staticmethod
    def file(
        path: Path, size: tuple[int, int], mask: Path | None, meaning: MaskMeaning
    ) -> "ImageSource":
        """Describe an image file and the mask beside it."""
        read = (lambda: read_mask(mask)) if mask is not None else None
        return ImageSource(
            f"The image {path}",
            size,
            lambda: read_pixels(path),
            lambda: image_digest(path, mask),
            read,
            meaning,
        )

    @staticmethod
    def array(name: str, pixels: UInt8[np.ndarray, "H W C"]) -> "ImageSource":
        """Describe an image that is in memory."""

        def digest() -> bytes:
            content = np.ascontiguousarray(pixels).reshape(-1)
            head = f"{pixels.shape}".encode()
            pieces = [content[begin:end].tobytes() for begin, end in _pieces(content.size)]
            return hashlib.sha256(head + b"".join(pieces)).digest()

        return ImageSource(name, (pixels.shape[1], pixels.shape[0]), lambda: pixels, digest)

    def decode(self, downscale: int, channels: int) -> tuple[np.ndarray, UInt8[np.ndarray, "H W"]]:
        """Read the image in its stored form, and its weights (1, or 0 where it is ignored).

        Args:
            downscale: K >= 1. A pixel is ignored when any of its K x K pixels is.
            channels: 3 or 4; an opaque image gets an alpha channel where 4 are wanted.

        Raises:
            DataError: The file is broken, or it or its mask is not of the size declared.
        """
        pixels = self.read()
        self._check("", pixels)
        if pixels.shape[-1] < channels:
            pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=-1)
        weights = np.ones(pixels.shape[:2], dtype=np.uint8)
        if self.mask is not None:
            mask = self.mask()
            self._check("The mask of ", mask)
            if self.meaning == "ignore":
                weights = (mask >= 128).astype(np.uint8)  # half: a JPEG's noise does no harm
            else:
                pixels[..., 3] = np.rint(pixels[..., 3] * (mask / np.float32(255)))
        if downscale == 1:
            return pixels, weights
        k, height, width = downscale, pixels.shape[0] // downscale, pixels.shape[1] // downscale
        blocks = weights[: height * k, : width * k].reshape(height, k, width, k)
        return box_filtered(pixels, k), blocks.min(axis=(1, 3))

    def _check(self, of: str, pixels: np.ndarray) -> None:
        wanted, came = self.size, (pixels.shape[1], pixels.shape[0])
        if came != wanted:
            name = f"{of}{self.name[0].lower()}{self.name[1:]}" if of else self.name
            raise DataError(
                f"{name} must be {wanted[0]}x{wanted[1]} pixels, but is {came[0]}x{came[1]}."
            )


def _pieces(size: int) -> list[tuple[int, int]]:
    """Which of so many bytes are hashed: first and last of each piece."""
    if size <= _SAMPLE:
        return [(0, size)]
    length = _SAMPLE // _PIECES
    starts = [(size - length) * k // (_PIECES - 1) for k in range(_PIECES)]
    return [(start, start + length) for start in starts]


def image_digest(path: Path, mask: Path | None) -> bytes:
    """Hash the content of an image file, and of the mask beside it, without decoding them.

    Raises:
        DataError: A file cannot be read.
    """
    return _file_digest(path) + (b"" if mask is None else _file_digest(mask))


def _file_digest(path: Path) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(f"{size}".encode())
            for begin, end in _pieces(size):
                file.seek(begin)
                digest.update(file.read(end - begin))
    except OSError as error:
        raise DataError(f"The image {path} cannot be read ({error.strerror}).") from None
    return digest.digest()


def box_filtered(pixels: UInt8[np.ndarray, "H W C"], k: int) -> Int16[np.ndarray, "h w C"]:
    """Average k x k blocks of premultiplied colour; `FULL` is 1.0, the error at most 1 / 65534.

    Where a side is no multiple of k, its last pixels (right, bottom) are cut off.

    Args:
        pixels: Straight colour, with or without alpha.
        k: Side of a block, >= 1.
    """
    height, width, channels = pixels.shape[0] // k, pixels.shape[1] // k, pixels.shape[2]
    values = pixels[: height * k, : width * k].astype(np.uint32)
    if channels == 4:
        values[..., :3] *= values[..., 3:]
        values[..., 3] *= 255
    # Rows first: those sums run over contiguous memory and leave k times less for the columns.
    rows = values.reshape(height, k, width * k, channels).sum(axis=1)
    sums = rows.reshape(height, width, k, channels).sum(axis=2, dtype=np.float64)
    unit = (255.0 * 255.0 if channels == 4 else 255.0) * k * k
    result: np.ndarray = np.rint(sums * (FULL / unit)).astype(np.int16)
    return result
