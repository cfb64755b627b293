"""Images as signals: what a pixel is worth, where it lies, and what may be wrong with a file."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from polyfield.datasets.picture_source import load_picture
from polyfield.errors import DataError


def write(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def write_exr(path: Path, pixels: np.ndarray) -> Path:
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("exr", rate=1)
        stream.width, stream.height, stream.pix_fmt = pixels.shape[1], pixels.shape[0], "gbrpf32le"
        frame = av.VideoFrame.from_ndarray(pixels, format="gbrpf32le")
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    return path


def test_pixels_are_points_with_values(tmp_path: Path) -> None:
    pixels = noise(4, 6, 3)
    image = load_picture(write(tmp_path / "a.png", pixels))
    ids = torch.tensor([0, 5, 6, 23])
    assert (
        image.points(ids).tolist()
        == torch.tensor(
            [[0.5 / 6, 0.5 / 4], [5.5 / 6, 0.5 / 4], [0.5 / 6, 1.5 / 4], [5.5 / 6, 3.5 / 4]]
        ).tolist()
    )
    wanted = torch.from_numpy(pixels.reshape(-1, 3)[ids.numpy()]).float() / 255
    assert torch.equal(image.values(ids), wanted)
    assert (len(image), image.channels, image.peak) == (24, 3, 1.0)


def test_colour_is_multiplied_by_alpha_and_an_opaque_alpha_is_dropped(tmp_path: Path) -> None:
    pixels = noise(3, 5, 4)
    image = load_picture(write(tmp_path / "a.png", pixels))
    flat = torch.from_numpy(pixels.reshape(-1, 4)).float() / 255
    assert torch.allclose(image.values(slice(None))[:, :3], flat[:, :3] * flat[:, 3:])
    pixels[..., 3] = 255
    assert load_picture(write(tmp_path / "b.png", pixels)).channels == 3


def test_pixels_beyond_the_memory_are_read_from_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", noise(9, 7, 3))
    inside, outside = load_picture(path), load_picture(path, memory=0)
    assert isinstance(outside.pixels, np.memmap)
    ids = torch.arange(63).flip(0)
    assert torch.equal(inside.values(ids), outside.values(ids))
    assert torch.equal(inside.edges(), outside.edges())


def test_exr_keeps_its_floats(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).uniform(0, 9, (5, 8, 3)).astype(np.float32)
    image = load_picture(write_exr(tmp_path / "a.exr", pixels))
    assert np.array_equal(image.pixels.reshape(5, 8, 3), pixels)
    assert image.peak == pixels.max()


def test_edges_are_where_values_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = np.zeros((6, 8, 3), dtype=np.uint8)
    step[:, 4:] = 255
    image = load_picture(write(tmp_path / "a.png", step))
    edges = image.edges().view(6, 8)
    # Sobel across a step of 1 gives 4 on both sides, in each of three channels.
    assert torch.allclose(edges[:, 3:5], torch.full((6, 2), 4 * 3**0.5))
    assert not edges[:, :3].any()
    assert not edges[:, 5:].any()
    monkeypatch.setattr("polyfield.datasets.picture_source._BAND", 8)  # a row at a time
    assert torch.equal(image.edges().view(6, 8), edges)


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    image = load_picture(write(tmp_path / "a.png", noise(1, 1, 3)))
    assert image.edges().tolist() == [0.0]
    assert image.points(torch.tensor([0])).tolist() == [[0.5, 0.5]]


def test_what_is_no_image_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no image"):
        load_picture(tmp_path / "none.png")
    whole = write(tmp_path / "a.png", noise(64, 64, 3)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut.png cannot be read .* cut off or damaged"):
        load_picture(tmp_path / "cut.png")
    Image.fromarray(noise(4, 4, 4), mode=None).convert("CMYK").save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="colour mode CMYK"):
        load_picture(tmp_path / "a.jpg")
    for name, content in (("empty.exr", b""), ("junk.exr", b"\x76\x2f\x31\x01" + b"junk" * 99)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name} cannot be read"):
            load_picture(tmp_path / name)
    holes = np.full((4, 4, 3), np.nan, dtype=np.float32)
    with pytest.raises(DataError, match="not finite"):
        load_picture(write_exr(tmp_path / "nan.exr", holes))
    for large in (1e16, -1e38):
        with pytest.raises(DataError, match=r"values beyond 1e\+15"):
            load_picture(write_exr(tmp_path / "large.exr", np.full_like(holes, large)))


@pytest.mark.parametrize("size", [(1, 1), (20, 20), (33, 70)])
def test_an_exr_that_is_cut_off_anywhere_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).uniform(-1, 9, (*size, 3)).astype(np.float32)
    path = write_exr(tmp_path / "a.exr", pixels)
    whole = path.read_bytes()
    assert np.array_equal(load_picture(path).pixels, pixels.reshape(-1, 3))
    for length in [len(whole) - 1, *np.linspace(1, len(whole) - 2, 15).astype(int)]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"a\.exr (cannot be read|ends before its last rows)"):
            load_picture(path)


def test_a_large_image_is_no_reason_to_warn(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = write(tmp_path / "a.png", noise(40, 40, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        load_picture(path)
        assert len(recwarn) == 0
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(DataError, match="more than 200 pixels, which is not believed"):
            load_picture(path)


def test_a_real_exr(data_dir: Path, tmp_path: Path) -> None:
    image = load_picture(data_dir / "images" / "albert.exr")
    assert (image.width, image.height, image.channels) == (1024, 1024, 3)
    assert 0.0 <= image.pixels.min() < image.pixels.max() <= 1.0
    (tmp_path / "cut.exr").write_bytes((data_dir / "images" / "albert.exr").read_bytes()[:-5])
    with pytest.raises(DataError, match="ends before its last rows"):
        load_picture(tmp_path / "cut.exr")
