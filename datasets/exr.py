"""EXR files: linear colour in floats, decoded by libav.

libav gives black where a file was cut off and says nothing, so the ends of the file's blocks are looked at first.

See: "OpenEXR file layout", openexr.com.
"""

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32

from polyfield.datasets.decode import FORMATS
from polyfield.errors import DataError

__all__ = ["read_exr"]

_NOT_SCAN_LINES = 0x200 | 0x800 | 0x1000  # tiles, deep pixels, several parts
_LINES = (1, 1, 1, 16, 32, 16, 32, 32, 32, 256)  # of a block, by the kind of compression


def read_exr(path: Path) -> Float32[np.ndarray, "H W C"]:
    """Decode an EXR file: C is 3, or 4 with a straight alpha; grey becomes three equal channels.

    Raises:
        DataError: It is missing, damaged, cut off, or has other channels than colour.
    """
    import av

    try:
        whole = _is_whole(path)
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            name = frame.format.name
            array: np.ndarray = frame.to_ndarray()
    except (av.FFmpegError, StopIteration, ValueError, OSError) as error:
        raise DataError(
            f"The image {path} cannot be read ({str(error).split(':')[0]}); is it cut off or damaged?"
        ) from None
    if not name.startswith(("gbr", "gray")) or array.dtype != np.float32:
        kinds = ", ".join(FORMATS)
        raise DataError(
            f"The image {path} has pixels of the kind {name}; EXR with channels R, G, B and perhaps A, "
            f"or {kinds}, can be read."
        )
    if not whole:
        raise DataError(
            f"The image {path} ends before its last rows of pixels; is it cut off or damaged?"
        )
    return np.repeat(array[..., None], 3, -1) if array.ndim == 2 else array


def _is_whole(path: Path) -> bool:
    """Whether all blocks of rows lie within the file; for other layouts, and what is no EXR, the decoder decides."""
    size = path.stat().st_size
    with path.open("rb") as file:
        magic, version = struct.unpack("<II", file.read(8).ljust(8, b"\0"))
        if magic != 20000630 or version & _NOT_SCAN_LINES:
            return True
        head = _attributes(file)
        window, compression = head.get("dataWindow", b""), head.get("compression", b"")
        if len(window) != 16 or len(compression) != 1 or compression[0] >= len(_LINES):
            return True
        _, top, _, bottom = struct.unpack("<4i", window)
        blocks = -(-(bottom - top + 1) // _LINES[compression[0]])
        table = file.read(8 * blocks) if 0 < blocks <= size // 8 else b""
        if not table or len(table) < 8 * blocks:
            return False
        offsets = struct.unpack(f"<{blocks}Q", table)
        last: int = max(offsets)
        if min(offsets) < file.tell() or last + 8 > size:
            return False
        file.seek(last + 4)  # behind the number of its first row
        length: int = struct.unpack("<I", file.read(4))[0]
        return last + 8 + length <= size


def _attributes(file: BinaryIO) -> dict[str, bytes]:
    """Read the attributes of a head: name, kind and length of each, then its value; an empty name ends them."""
    head = dict[str, bytes]()
    while name := _word(file):
        _word(file)
        (length,) = struct.unpack("<I", file.read(4).ljust(4, b"\0"))
        head[name] = file.read(min(length, 1 << 20))
    return head


def _word(file: BinaryIO) -> str:
    """Read a text that a zero byte ends."""
    letters = bytearray()
    while (letter := file.read(1)) not in (b"\0", b""):
        letters += letter
    return letters.decode("latin-1")
