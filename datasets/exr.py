"""EXR files: linear colour in floats, decoded by libav.

libav gives black where a file was cut off and says nothing, so the ends of the file's blocks are looked at first. So is
where the picture begins, as libav takes all to begin at (0, 0).

See: "OpenEXR file layout", openexr.com.
"""

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float32

from polyfield.datasets.decode import FORMATS
from polyfield.errors import DataError

__all__ = ["read_exr"]

_TILES, _OTHERS = 0x200, 0x800 | 0x1000  # deep pixels, several parts
_LINES = (1, 1, 1, 16, 32, 16, 32, 32, 32, 256)  # of a block, by the kind of compression
# Of a head, and bytes of what is looked at of it.
_MOST_ATTRIBUTES, _MOST_WORD, _MOST_VALUE = 4096, 256, 1024
# By libav's names: which planes are red, green, blue and alpha, and of which floats they are.
_PLANES = {
    f"{name}{kind}": (planes, floats)
    for kind, floats in (("f32le", np.float32), ("f16le", np.float16))
    for name, planes in (("gbrp", (2, 0, 1)), ("gbrap", (2, 0, 1, 3)), ("gray", (0, 0, 0)))
}


def read_exr(path: Path) -> Float32[np.ndarray, "H W C"]:
    """Decode an EXR file: C is 3, or 4 with a straight alpha; grey becomes three equal channels.

    In the file colour is multiplied by alpha. What glows without covering anything, where alpha is 0, is black here.

    Raises:
        DataError: It is missing, damaged, cut off, has other channels than colour, or does not begin at (0, 0).
    """
    import av

    try:
        whole = _is_whole(path)
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
    except DataError:
        raise
    except (av.FFmpegError, StopIteration, ValueError, OSError) as error:
        raise DataError(
            f"The image {path} cannot be read ({str(error).split(':')[0]}); is it cut off or damaged?"
        ) from None
    if frame.format.name not in _PLANES:
        kinds = ", ".join(FORMATS)
        raise DataError(
            f"The image {path} has pixels of the kind {frame.format.name}; EXR with channels R, G, B and perhaps A, "
            f"in floats, or {kinds}, can be read."
        )
    if not whole:
        raise DataError(
            f"The image {path} ends before its last rows of pixels; is it cut off or damaged?"
        )
    return _pixels(frame)


def _pixels(frame: Any) -> Float32[np.ndarray, "H W C"]:
    order, floats = _PLANES[frame.format.name]
    planes = [np.frombuffer(plane, floats).reshape(frame.height, -1) for plane in frame.planes]
    pixels = np.stack([planes[i][:, : frame.width] for i in order], -1).astype(np.float32)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:]
        np.divide(pixels[..., :3], alpha, out=pixels[..., :3], where=alpha != 0)
        pixels[..., :3][alpha[..., 0] == 0] = 0.0
    return pixels


def _is_whole(path: Path) -> bool:
    """Whether all blocks of rows, or tiles, lie within the file; of what is no EXR the decoder decides.

    Raises:
        DataError: The picture does not begin at (0, 0).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        magic, version = struct.unpack("<II", file.read(8).ljust(8, b"\0"))
        if magic != 20000630 or version & _OTHERS:
            return True
        head = _attributes(file)
        shown = head.get("displayWindow", b"")
        if len(shown) == 16 and any(shown[:8]):
            raise DataError(
                f"The image {path} begins at {struct.unpack('<2i', shown[:8])}; a display window must begin at (0, 0)."
            )
        blocks, before = _layout(head, bool(version & _TILES))
        if blocks is None:
            return True
        table = file.read(8 * blocks) if 0 < blocks <= size // 8 else b""
        if not table or len(table) < 8 * blocks:
            return False
        offsets = struct.unpack(f"<{blocks}Q", table)
        last: int = max(offsets)
        if min(offsets) < file.tell() or last + before + 4 > size:
            return False
        file.seek(last + before)
        length: int = struct.unpack("<I", file.read(4))[0]
        return last + before + 4 + length <= size


def _layout(head: dict[str, bytes], tiled: bool) -> tuple[int | None, int]:
    """How many blocks the finest level has, None where the head does not say so; bytes before a block's length."""
    window, compression = head.get("dataWindow", b""), head.get("compression", b"")
    if len(window) != 16 or len(compression) != 1 or compression[0] >= len(_LINES):
        return None, 0
    left, top, right, bottom = struct.unpack("<4i", window)
    if not tiled:
        return -(-(bottom - top + 1) // _LINES[compression[0]]), 4  # the number of its first row
    across, down = struct.unpack("<2I", head.get("tiles", b"")[:8].ljust(8, b"\0"))
    if not across or not down:
        return None, 0
    return -(-(right - left + 1) // across) * -(-(bottom - top + 1) // down), 16  # place and level


def _attributes(file: BinaryIO) -> dict[str, bytes]:
    """Read the attributes of a head: name, kind and length of each, then its value; an empty name ends them."""
    head = dict[str, bytes]()
    for _ in range(_MOST_ATTRIBUTES):
        if not (name := _word(file)):
            break
        _word(file)
        (length,) = struct.unpack("<I", file.read(4).ljust(4, b"\0"))
        head[name] = file.read(min(length, _MOST_VALUE))
        file.seek(length - len(head[name]), 1)
    return head


def _word(file: BinaryIO) -> str:
    """Read a text that a zero byte ends."""
    letters = bytearray()
    while len(letters) < _MOST_WORD and (letter := file.read(1)) not in (b"\0", b""):
        letters += letter
    return letters.decode("latin-1")
