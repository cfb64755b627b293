"""EXR files of other kinds than libav writes: laid out by hand, after the format's description."""

import struct
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from polyfield.datasets.exr import read_exr
from polyfield.datasets.picture_source import load_picture
from polyfield.errors import DataError

KINDS = {np.float16: 1, np.float32: 2}
NAMES = {1: "Y", 3: "BGR", 4: "ABGR"}  # in the order of the alphabet, as channels lie
TILE = 16


def attribute(name: str, kind: str, value: bytes) -> bytes:
    return b"\0".join((name.encode(), kind.encode(), struct.pack("<I", len(value)) + value))


def exr(
    pixels: np.ndarray, corner: tuple[int, int] = (0, 0), extra: bytes = b"", tiled: bool = False
) -> bytes:
    """Lay out uncompressed pixels [H, W, C]."""
    height, width, channels = pixels.shape
    kind = KINDS[pixels.dtype.type]
    names = b"".join(name.encode() + struct.pack("<xi4xii", kind, 1, 1) for name in NAMES[channels])
    left, top = corner
    box = struct.pack("<4i", left, top, left + width - 1, top + height - 1)
    head = struct.pack("<II", 20000630, 2 | 0x200 * tiled) + extra
    head += attribute("channels", "chlist", names + b"\0")
    head += attribute("compression", "compression", b"\0")
    head += attribute("dataWindow", "box2i", box) + attribute("displayWindow", "box2i", box)
    head += attribute("lineOrder", "lineOrder", b"\0")
    head += attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    head += attribute("screenWindowCenter", "v2f", bytes(8))
    head += attribute("screenWindowWidth", "float", struct.pack("<f", 1))
    if tiled:
        head += attribute("tiles", "tiledesc", struct.pack("<IIB", TILE, TILE, 0))
    head += b"\0"
    if tiled:
        places = list(product(range(0, height, TILE), range(0, width, TILE)))
        blocks = [
            (pixels[y : y + TILE, x : x + TILE], (x // TILE, y // TILE, 0, 0)) for y, x in places
        ]
    else:
        blocks = [(pixels[y : y + 1], (top + y,)) for y in range(height)]
    table, body = b"", b""
    for part, place in blocks:
        data = b"".join(row[:, ::-1].T.tobytes() for row in part)
        table += struct.pack("<Q", len(head) + 8 * len(blocks) + len(body))
        body += struct.pack(f"<{len(place)}iI", *place, len(data)) + data
    return head + table + body


def written(folder: Path, content: bytes) -> Path:
    path = folder / "a.exr"
    path.write_bytes(content)
    return path


def noise(channels: int, floats: type = np.float32) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 0.9, (21, 37, channels)).astype(floats)


@pytest.mark.parametrize("floats", [np.float16, np.float32])
@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_floats_come_back(tmp_path: Path, channels: int, tiled: bool, floats: type) -> None:
    pixels = noise(channels, floats)
    array = read_exr(written(tmp_path, exr(pixels, tiled=tiled)))
    assert array.dtype == np.float32
    assert array.shape == (21, 37, 3)
    assert np.array_equal(array, np.broadcast_to(pixels.astype(np.float32), array.shape))


def test_alpha_is_taken_out_of_colour(tmp_path: Path) -> None:
    straight = noise(4)
    straight[0, 0] = 0.0
    stored = straight.copy()
    stored[..., :3] *= stored[..., 3:]
    stored[0, 0, :3] = 0.5  # it glows, and covers nothing
    array = read_exr(written(tmp_path, exr(stored)))
    assert np.array_equal(array[..., 3], straight[..., 3])
    np.testing.assert_allclose(array[..., :3], straight[..., :3], rtol=1e-6)
    stored[5, 5] = (3.0, 0.1, 0.1, 0.01)  # a straight red of 300
    image = load_picture(written(tmp_path, exr(stored)))
    assert image.peak == pytest.approx(3.0)
    wanted = stored.reshape(-1, 4)[1:]
    for _ in range(2):  # to be asked changes nothing
        np.testing.assert_allclose(image.values(slice(1, None)).numpy(), wanted, rtol=1e-6)


def test_tiles_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    whole = exr(noise(3), tiled=True)
    for length in [len(whole) - 1, *np.linspace(1, len(whole) - 2, 15).astype(int)]:
        with pytest.raises(DataError, match=r"a\.exr (cannot be read|ends before its last rows)"):
            read_exr(written(tmp_path, whole[:length]))


def test_a_large_attribute_is_passed_over(tmp_path: Path) -> None:
    pixels, comment = noise(3), attribute("comment", "string", b"x" * (3 << 20))
    assert np.array_equal(read_exr(written(tmp_path, exr(pixels, extra=comment))), pixels)


@pytest.mark.parametrize("corner", [(10, 0), (0, 5), (-10, -20)])
def test_a_picture_that_begins_elsewhere_is_refused_and_not_shifted(
    tmp_path: Path, corner: tuple[int, int]
) -> None:
    with pytest.raises(DataError, match=r"a display window must begin at \(0, 0\)\.$"):
        read_exr(written(tmp_path, exr(noise(3), corner)))


@pytest.mark.parametrize("head", [b"a" * (1 << 22), b"a\0b\0\0\0\0\0" * (1 << 15)])
def test_a_head_without_an_end_is_refused(tmp_path: Path, head: bytes) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_exr(written(tmp_path, struct.pack("<II", 20000630, 2) + head))
