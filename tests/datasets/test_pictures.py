"""Pictures on disk: what was written is read back, whole or not at all."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from polyfield.datasets.images import Images
from polyfield.datasets.pictures import (
    depth_picture,
    load_depth,
    save_depth,
    save_png,
    save_video,
    to_bytes,
)
from polyfield.errors import DataError, InputError, RunError, ShapeError


def test_a_png_holds_what_images_gave(tmp_path: Path) -> None:
    straight = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    straight[0, 0, 3] = 0
    premultiplied = Images.from_arrays([straight]).image(0)
    save_png(tmp_path / "a.png", premultiplied)
    back = np.asarray(Image.open(tmp_path / "a.png"))
    straight[straight[..., 3] == 0] = 0  # what cannot be seen has no colour
    np.testing.assert_array_equal(back, straight)


@pytest.mark.parametrize(("shape", "mode"), [((4, 5), "L"), ((4, 5, 1), "L"), ((4, 5, 3), "RGB")])
def test_floats_are_rounded_and_clipped(tmp_path: Path, shape: tuple[int, ...], mode: str) -> None:
    values = torch.linspace(-0.2, 1.2, int(np.prod(shape))).reshape(shape)
    save_png(tmp_path / "a.png", values)
    image = Image.open(tmp_path / "a.png")
    assert image.mode == mode
    expected = np.rint(values.clamp(0, 1).numpy() * 255)
    np.testing.assert_array_equal(np.asarray(image).reshape(shape), expected)
    save_png(tmp_path / "b.png", expected.astype(np.uint8))  # bytes are taken as they are
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "b.png")).reshape(shape), expected
    )


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (torch.zeros(4), r"must be \[H, W\], or \[H, W, C\] with C 1, 3 or 4, but is \[4\]"),
        (torch.zeros(4, 4, 2), r"but is \[4, 4, 2\]"),
        (torch.zeros(0, 4, 3), r"but is \[0, 4, 3\]"),
        (torch.zeros(4, 4, 3, dtype=torch.int64), "must hold floats or uint8, but holds int64"),
    ],
)
def test_what_is_no_picture_is_refused(picture: torch.Tensor, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        to_bytes(picture)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", torch.zeros(3, 3))
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(ShapeError):
        save_png(tmp_path / "a.png", torch.zeros(3, 3, 7))
    with pytest.raises(OSError, match="No such file"):
        save_png(tmp_path / "nowhere" / "a.png", torch.zeros(3, 3))
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


# Depth


@settings(deadline=None, max_examples=30)
@given(scale=st.floats(1e-3, 1e4), seed=st.integers(0, 99))
def test_depth_comes_back_within_half_a_unit(
    tmp_path_factory: pytest.TempPathFactory, scale: float, seed: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "depth.png"
    depth = torch.rand(6, 5, generator=torch.Generator().manual_seed(seed)) * scale + 1e-9
    depth[0, :3] = torch.tensor([torch.inf, torch.nan, -1.0])
    unit = save_depth(path, depth)
    with Image.open(path) as image:
        assert image.mode == "I;16"
    back = load_depth(path)
    assert (back[0, :3] == 0).all()
    known = torch.ones_like(depth, dtype=torch.bool)
    known[0, :3] = False
    assert (back[known] > 0).all()
    # Half a step; a whole one where a depth would have become 0; float32 of the result.
    assert ((back - depth)[known].abs() <= unit * 1.0001).all()
    assert ((back - depth)[known & (depth > unit)].abs() <= unit * 0.5001 + 1e-6 * scale).all()


def test_a_depth_of_nothing_is_black_and_other_files_are_refused(tmp_path: Path) -> None:
    save_depth(tmp_path / "a.png", torch.full((2, 2), torch.inf))
    assert (load_depth(tmp_path / "a.png") == 0).all()
    save_png(tmp_path / "b.png", torch.zeros(2, 2))
    for name in ("b.png", "gone.png"):
        with pytest.raises(DataError, match="is not a depth picture of ours"):
            load_depth(tmp_path / name)


def test_near_is_paler_than_far_and_nothing_is_white() -> None:
    depth = torch.linspace(2, 6, 100).reshape(10, 10)
    depth[0, 0] = 0
    depth[0, 1] = torch.inf
    picture = depth_picture(depth)
    assert picture[0, :2].tolist() == [[255] * 3] * 2
    grey = (picture @ np.array([0.2126, 0.7152, 0.0722])).flatten()[2:]
    assert (np.diff(grey) <= 0).all()
    assert grey[0] - grey[-1] > 150
    # With a range given, a depth has its colour whatever else is in the picture.
    alone = depth_picture(depth[5:6, 5:6], near=2, far=6)
    assert np.abs(alone[0, 0].astype(int) - depth_picture(depth, near=2, far=6)[5, 5]).max() == 0
    assert (depth_picture(torch.zeros(2, 2)) == 255).all()
    assert depth_picture(torch.full((2, 2), 3.0)).shape == (2, 2, 3)


# Video


def frames(count: int, height: int, width: int) -> Iterator[torch.Tensor]:
    for i in range(count):
        yield torch.tensor([1.0, 0.5, 0.25]).expand(height, width, 3) * (i / (count - 1))


@pytest.mark.parametrize(("height", "width"), [(64, 96), (63, 95), (1, 1)])
def test_a_video_is_read_back(tmp_path: Path, height: int, width: int) -> None:
    path = tmp_path / "a.mp4"
    save_video(path, frames(12, height, width), fps=10)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 10
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(shown) == 12
    for wanted, frame in zip(frames(12, height, width), shown, strict=True):
        assert frame.shape == (height + height % 2, width + width % 2, 3)
        # 8-bit YUV of limited range, and a little loss.
        assert np.abs(frame - wanted.numpy()[:1, :1] * 255).max() < 6
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_transparent_frames_are_put_on_white(tmp_path: Path) -> None:
    save_video(tmp_path / "a.mp4", [torch.zeros(16, 16, 4)] * 3)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert frame.min() > 250


def test_videos_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in \.mp4, but is called a\.avi"):
        save_video(tmp_path / "a.avi", frames(3, 8, 8))
    with pytest.raises(InputError, match="--fps must be at least 1, but is 0"):
        save_video(tmp_path / "a.mp4", frames(3, 8, 8), fps=0)
    with pytest.raises(InputError, match=r"no frames to write to a\.mp4"):
        save_video(tmp_path / "a.mp4", [])
    with pytest.raises(ShapeError, match="Frame 1 of the video is 10x8, but the first is 8x8"):
        save_video(tmp_path / "a.mp4", [torch.zeros(8, 8, 3), torch.zeros(8, 10, 3)])
    with pytest.raises(RunError, match="could not be encoded"):
        save_video(tmp_path / "a.mp4", [torch.zeros(2, 40000, 3)])
    assert list(tmp_path.iterdir()) == []


def test_a_broken_generator_leaves_the_old_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    save_video(path, frames(3, 16, 16))
    before = path.read_bytes()

    def broken() -> Iterator[torch.Tensor]:
        yield torch.zeros(16, 16, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_video(path, broken())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
