"""One image file to an array of straight 8-bit colour, or one sentence about what is wrong with it.

Straight means that colour is not multiplied by alpha. The orientation in a photograph's EXIF block
is ignored: cameras are calibrated on pixels as they are stored.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from polyfield.errors import DataError

__all__ = ["FORMATS", "Header", "read_header", "read_mask", "read_pixels"]

# Only formats that are plain pictures: some of Pillow's other readers start external programs.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM")

_WITH_ALPHA = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
_OPAQUE = frozenset({"1", "L", "P", "RGB", "RGBX", "YCbCr"})
_GREY_16 = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels are decoded.

    Attributes:
        width: In pixels.
        height: In pixels.
        alpha: Whether pixels can be transparent.
    """

    width: int
    height: int
    alpha: bool


def read_header(path: Path) -> Header:
    """Read the size and kind of an image without decoding it.

    Raises:
        DataError: The file is missing, empty, no image, too large, or of a kind whose colours are
            not those of a screen (CMYK).
    """
    with _opened(path) as image:
        return _header(path, image)


def read_pixels(path: Path) -> UInt8[np.ndarray, "H W C"]:
    """Decode an image: C is 3, or 4 (straight RGB and alpha) where the file can be transparent.

    Grey becomes three equal channels, a palette its colours; of 16-bit channels the upper 8 bits
    are kept, but for colours of a PPM, which are rounded. The first picture of an animation is
    taken.

    Raises:
        DataError: As `read_header`, or the pixels are cut off or corrupt.
    """
    with _opened(path) as image:
        header = _header(path, image)
        if _is_grey_16(image):
            grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=-1)
        # A copy: the decoder's buffer goes with the image.
        return np.array(image.convert("RGBA" if header.alpha else "RGB"))


def read_mask(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Decode a mask: 255 inside, 0 outside. Colours count by their mean, transparent is outside.

    Raises:
        DataError: As `read_pixels`.
    """
    pixels = read_pixels(path)
    value = pixels[..., :3].mean(axis=-1)
    if pixels.shape[-1] == 4:
        value = value * (pixels[..., 3] / 255)
    mask: np.ndarray = np.rint(value).astype(np.uint8)
    return mask


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with _large_images_are_fine(), Image.open(path, formats=FORMATS) as image:
            yield image
    except DataError:
        raise
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        empty = path.stat().st_size == 0
        what = "is empty (0 bytes)" if empty else f"is not an image of a known kind ({kinds})"
        raise DataError(f"The image {path} {what}.") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise DataError(
            f"The image {path} claims to have more than {limit:,} pixels, which is not believed; "
            "make it smaller."
        ) from None
    except FileNotFoundError:
        raise DataError(f"The image {path} does not exist.") from None
    except Exception as error:  # decoders raise whatever a broken file makes them stumble over
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or "unknown"
        raise DataError(
            f"The image {path} cannot be read ({reason.rstrip('.')}); is it cut off or damaged?"
        ) from None


@contextmanager
def _large_images_are_fine() -> Iterator[None]:
    """Keep Pillow's warning of large images, which are no error, from standing among our own words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _header(path: Path, image: Image.Image) -> Header:
    if image.mode not in _WITH_ALPHA | _OPAQUE and not _is_grey_16(image):
        raise DataError(
            f"The image {path} has the colour mode {image.mode}, whose colours on a screen would "
            "be a guess; save it as RGB, RGBA or grey."
        )
    width, height = image.size
    if width < 1 or height < 1:
        raise DataError(f"The image {path} has no pixels ({width}x{height}).")
    named = "transparency" in image.info and not _is_grey_16(image)
    return Header(width, height, image.mode in _WITH_ALPHA or named)


def _is_grey_16(image: Image.Image) -> bool:
    """Whether it is grey from 0 to 65535.

    Pillow gives that as 32-bit integers of a PGM, whatever its largest value is; those of other files may be anything.
    """
    return image.mode in _GREY_16 or (image.mode == "I" and image.format == "PPM")
