"""Decoding one image file: every kind of file to 8-bit colour, or one sentence about what is wrong with it."""

import contextlib
import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from polyfield.datasets.decode import read_header, read_mask, read_pixels
from polyfield.datasets.images import Images
from polyfield.errors import DataError, InputError


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


# Kinds of files


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_of_png_becomes_the_colours_that_pillow_shows(tmp_path: Path, mode: str) -> None:
    rgba = Image.fromarray(noise(6, 5, 4))
    image = (
        Image.fromarray(noise(6, 5).astype(np.uint16) << 8)
        if mode == "I;16"
        else rgba.convert("RGB").convert(mode)
        if mode == "P"
        else rgba.convert(mode)
    )
    path = tmp_path / "image.png"
    image.save(path)
    if mode == "I;16":
        expected = np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, -1)
    else:
        expected = np.asarray(image.convert("RGBA" if "A" in mode else "RGB"))
    np.testing.assert_array_equal(read_pixels(path), expected)
    header = read_header(path)
    assert (header.width, header.height, header.alpha) == (5, 6, "A" in mode)


def test_a_palette_with_a_transparent_colour_has_alpha(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], dtype=np.uint8), mode=None).convert("P")
    path = tmp_path / "image.png"
    image.save(path, transparency=0)
    assert read_header(path).alpha
    assert read_pixels(path)[..., 3].tolist() == [[0, 255], [255, 0]]


def test_sixteen_bit_colour_keeps_its_upper_byte(tmp_path: Path) -> None:
    # Pillow writes no 16-bit colour; this is one made by hand: 1x1, 16-bit RGB.
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    row = b"\0" + struct.pack(">3H", 0x1234, 0x80FF, 0xFFFF)
    head = struct.pack(">2I5B", 1, 1, 16, 2, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    path = tmp_path / "deep.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    assert read_pixels(path).tolist() == [[[0x12, 0x80, 0xFF]]]


@pytest.mark.parametrize(
    ("head", "values", "expected"),
    [
        ("P5 5 1 65535\n", [0, 255, 256, 0x1234, 0xFFFF], [0, 0, 1, 0x12, 0xFF]),
        ("P5 5 1 1000\n", [0, 3, 4, 500, 1000], [0, 0, 1, 0x80, 0xFF]),
        ("P5 5 1 256\n", [0, 1, 128, 255, 256], [0, 1, 0x80, 0xFE, 0xFF]),
        ("P2 5 1 65535\n", "0 255 256 4660 65535", [0, 0, 1, 0x12, 0xFF]),
    ],
)
def test_a_deep_pgm_keeps_the_upper_byte_of_its_range(
    tmp_path: Path, head: str, values: list[int] | str, expected: list[int]
) -> None:
    body = values.encode() if isinstance(values, str) else np.array(values, ">u2").tobytes()
    path = tmp_path / "deep.pgm"
    path.write_bytes(head.encode() + body)
    assert read_pixels(path).tolist() == [[[value] * 3 for value in expected]]
    header = read_header(path)
    assert (header.width, header.height, header.alpha) == (5, 1, False)
    assert read_mask(path).tolist() == [expected]


def test_integers_of_32_bits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.tiff"
    Image.fromarray(np.array([[0, 70000]], dtype=np.int32)).save(path)
    with pytest.raises(DataError, match=r"colour mode I, whose colours .* would be a guess"):
        read_pixels(path)


def test_turning_marks_of_photographs_are_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me by 90 degrees"
    path = tmp_path / "turned.jpg"
    Image.fromarray(noise(4, 9, 3)).save(path, exif=exif)
    assert (read_header(path).width, read_pixels(path).shape) == (9, (4, 9, 3))


def test_print_colours_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    Image.fromarray(noise(4, 4, 4)[..., :4], mode="RGBA").convert("RGB").convert("CMYK").save(path)
    with pytest.raises(DataError, match=r"colour mode CMYK.*save it as RGB, RGBA or grey"):
        read_header(path)


# Broken files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"GIF89a", "is not an image of a known kind"),
        (b"hello" * 100, "is not an image of a known kind"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"The image .*image\.png {message}"):
        read_header(path)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"The image .*gone\.png does not exist\."):
        read_header(tmp_path / "gone.png")
    with pytest.raises(DataError, match="cannot be read"):
        read_header(tmp_path)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.png"
    Image.fromarray(noise(40, 40, 3)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="claims to have more than 200 pixels"):
        read_header(path)


@cache
def samples() -> list[bytes]:
    """Small files of each kind, whole."""
    rgba = Image.fromarray(noise(12, 15, 4))
    files = []
    for mode, kind, options in (
        ("RGBA", "PNG", {}),
        ("RGB", "PNG", {}),
        ("P", "PNG", {"transparency": 3}),
        ("LA", "PNG", {}),
        ("L", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True}),
        ("RGB", "JPEG", {"quality": 95}),
        ("RGBA", "WEBP", {"lossless": True}),
        ("RGB", "BMP", {}),
        ("RGBA", "TIFF", {"compression": "tiff_lzw"}),
        ("RGB", "PPM", {}),
        ("I", "PPM", {}),
    ):
        buffer = io.BytesIO()
        rgba.convert(mode).save(buffer, kind, **options)
        files.append(buffer.getvalue())
    return files


def mutated(data: st.DataObject, content: bytes) -> bytes:
    """Cut off, or with some bytes changed."""
    if data.draw(st.booleans(), label="cut"):
        return content[: data.draw(st.integers(0, len(content) - 1), label="length")]
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 6), label="changes")):
        # Half of the changes go to the head, where sizes and kinds are.
        last = data.draw(st.sampled_from([min(64, len(content)), len(content)])) - 1
        changed[data.draw(st.integers(0, last))] = data.draw(st.integers(0, 255))
    return bytes(changed)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_file_gives_an_image_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    path.write_bytes(mutated(data, data.draw(st.sampled_from(samples()))))
    with contextlib.suppress(DataError):  # and no other exception
        pixels = read_pixels(path)
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_photograph_gives_images_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data_dir: Path, data: st.DataObject
) -> None:
    files = [
        data_dir / "scenes/blender-lego/test/r_0.png",
        data_dir / "scenes/ngp-fox/images/0001.jpg",
        data_dir / "scenes/llff-fern/images_8/image000.png",
    ]
    path = tmp_path_factory.getbasetemp() / "photograph"
    path.write_bytes(mutated(data, data.draw(st.sampled_from(files)).read_bytes()))
    with contextlib.suppress(DataError, InputError):  # and no other exception
        images = Images.load([path], downscale=7)
        assert torch.isfinite(images.image(0)).all()
