"""Images: gathering, masks, downscaling, the memory budget."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from polyfield import native
from polyfield.datasets.decode import read_mask
from polyfield.datasets.image_source import FULL, box_filtered
from polyfield.datasets.images import Images
from polyfield.errors import DataError, InputError, ShapeError


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def written(folder: Path, *arrays: np.ndarray) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(len(arrays))]
    for path, array in zip(paths, arrays, strict=True):
        Image.fromarray(array).save(path)
    return paths


def everywhere(images: Images, i: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Camera, x and y of all pixels of an image, row by row."""
    width, height = images.sizes[i].tolist()
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.full((width * height,), i), x.flatten(), y.flatten()


def premultiplied(array: np.ndarray) -> np.ndarray:
    values = array.astype(np.float64) / 255
    if array.shape[-1] == 3:
        return np.concatenate([values, np.ones_like(values[..., :1])], axis=-1)
    return np.concatenate([values[..., :3] * values[..., 3:], values[..., 3:]], axis=-1)


# Gathering


@pytest.mark.parametrize("downscale", [5, 10**30])
def test_a_downscale_that_leaves_nothing(tmp_path: Path, downscale: int) -> None:
    array = np.full((9, 4, 3), 7, np.uint8)
    with pytest.raises(InputError, match=f"is 4x9: --downscale {downscale} leaves nothing"):
        Images.load(written(tmp_path, array), downscale=downscale)


@pytest.mark.parametrize("downscale", [1, 3])
@pytest.mark.parametrize("channels", [3, 4])
def test_gather_agrees_with_the_image_and_the_image_with_the_file(
    tmp_path: Path, channels: int, downscale: int
) -> None:
    arrays = [noise(6, 9, channels), noise(12, 3, channels, seed=1)]
    images = Images.load(written(tmp_path, *arrays), downscale=downscale)
    assert images.full_sizes.tolist() == [[9, 6], [3, 12]]
    assert images.sizes.tolist() == [
        [9 // downscale, 6 // downscale],
        [3 // downscale, 12 // downscale],
    ]
    assert images.has_alpha == (channels == 4)
    assert images.in_memory
    assert len(images) == 2
    for i, array in enumerate(arrays):
        whole = images.image(i)
        assert torch.equal(images.alpha(i), whole[..., 3])
        assert whole.dtype == torch.float32
        exact = premultiplied(array)
        height, width = exact.shape[0] // downscale, exact.shape[1] // downscale
        blocks = exact.reshape(height, downscale, width, downscale, 4).mean(axis=(1, 3))
        # Full size: two float32 roundings. Downscaled: half a step of 16 bits.
        tolerance = 2e-7 if downscale == 1 else 0.51 / FULL
        assert np.abs(whole.numpy() - blocks).max() < tolerance
        assert torch.equal(images.gather(*everywhere(images, i)).view_as(whole), whole)
        ids, x, y = everywhere(images, i)
        assert torch.equal(images.gather(ids.int(), x.int(), y.int()).view_as(whole), whole)
    assert images.weights(*everywhere(images, 0)) is None
    assert images.weight_image(0) is None


@pytest.mark.parametrize("kernels", [True, False])
def test_pixels_that_are_not_there_are_refused(
    kernels: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernels:
        monkeypatch.setattr(native, "usable", lambda *_: False)
    images = Images.load(written(tmp_path, noise(6, 9, 4), noise(12, 3, 4)))
    here = torch.tensor([0])
    for camera, x, y in ((2, 0, 0), (0, 0, 60), (1, 3, 12)):
        with pytest.raises(IndexError):
            images.gather(here + camera, here + x, here + y)
    with pytest.raises((IndexError, RuntimeError)):
        images.gather(here.expand(3), here.expand(3), here.expand(2))


def test_opaque_and_transparent_images_mix(tmp_path: Path) -> None:
    clear, opaque = noise(4, 4, 4), noise(4, 4, 3)
    images = Images.load(written(tmp_path, clear, opaque))
    assert images.has_alpha
    assert (images.image(1)[..., 3] == 1).all()
    assert np.allclose(images.image(1), premultiplied(opaque), atol=2e-7)


def test_an_alpha_channel_that_is_never_used_is_no_alpha(tmp_path: Path) -> None:
    array = noise(4, 4, 4)
    array[..., 3] = 255
    for downscale in (1, 2):
        assert not Images.load(written(tmp_path, array), downscale=downscale).has_alpha


def test_arrays_are_taken_as_files_are(tmp_path: Path) -> None:
    array = noise(6, 8, 4)
    from_file = Images.load(written(tmp_path, array), downscale=2)
    assert torch.equal(Images.from_arrays([array], downscale=2).image(0), from_file.image(0))
    with pytest.raises(ShapeError, match=r"image 1 must be uint8 .* float64 \[2, 2, 3\]"):
        Images.from_arrays([array, np.zeros((2, 2, 3))])
    with pytest.raises(InputError, match="at least one image"):
        Images.from_arrays([])


# Downscaling


@settings(deadline=None, max_examples=50)
@given(
    k=st.integers(1, 7),
    height=st.integers(7, 20),
    width=st.integers(7, 20),
    seed=st.integers(0, 99),
)
def test_the_box_filter_is_the_mean_of_premultiplied_colour(
    k: int, height: int, width: int, seed: int
) -> None:
    array = noise(height, width, 4, seed=seed)
    rows, columns = height // k, width // k
    cut = premultiplied(array)[
        : rows * k, : columns * k
    ]  # what is left over is cut right and below
    exact = cut.reshape(rows, k, columns, k, 4).mean(axis=(1, 3))
    assert np.abs(box_filtered(array, k) / FULL - exact).max() < 0.51 / FULL


def test_colour_under_transparent_pixels_does_not_bleed() -> None:
    array = np.zeros((2, 2, 4), dtype=np.uint8)
    array[..., 0] = 255  # red everywhere, but seen only in one pixel, which is green
    array[0, 0] = (0, 255, 0, 255)
    image = Images.from_arrays([array], downscale=2).image(0)
    assert np.allclose(image[0, 0], [0, 0.25, 0, 0.25], atol=0.51 / FULL)


def test_a_downscale_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    paths = written(tmp_path, noise(4, 9, 3))
    with pytest.raises(InputError, match=r"is 9x4: --downscale 5 leaves nothing"):
        Images.load(paths, downscale=5)
    with pytest.raises(InputError, match=r"--downscale must be a whole number >= 1, but is 0"):
        Images.load(paths, downscale=0)
    with pytest.raises(InputError, match=r"--threads must be at least 1, but is 0"):
        Images.load(paths, threads=0)


# Declared sizes, empty images


def test_another_size_than_declared_is_refused_before_decoding(tmp_path: Path) -> None:
    path = written(tmp_path, noise(4, 9, 3))[0]
    path.write_bytes(path.read_bytes()[:-40])  # its pixels are broken, but that is found later
    with pytest.raises(
        DataError, match=r"0\.png must be 4x9 pixels as its camera says, but is 9x4"
    ):
        Images.load([path], sizes=np.array([[4, 9]]))
    with pytest.raises(ShapeError, match=r"sizes must be \[1, 2\]"):
        Images.load([path], sizes=np.array([4, 9]))


def test_a_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    paths = written(tmp_path, noise(30, 30, 3), noise(30, 30, 3), noise(30, 30, 3))
    for path in paths[1:]:
        path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"1\.png cannot be read .* is it cut off or damaged\?"):
        Images.load(paths, threads=3)


def test_images_of_nothing_are_refused(tmp_path: Path) -> None:
    clear = noise(4, 4, 4)
    clear[..., 3] = 0
    paths = written(tmp_path, clear, clear, noise(4, 4, 4))
    assert Images.load(paths).has_alpha
    with pytest.raises(DataError, match=r"Every pixel of every image is transparent .*0\.png"):
        Images.load(paths[:2])
    with pytest.raises(InputError, match="at least one image"):
        Images.load([])


# Masks


def masks_of(folder: Path) -> tuple[list[Path], list[Path | None], np.ndarray]:
    mask = np.full((6, 6), 255, dtype=np.uint8)
    mask[:3, :2] = 0
    mask[5, 5] = 60
    file = folder / "mask.png"
    Image.fromarray(mask).save(file)
    return written(folder, noise(6, 6, 3), noise(6, 6, 3, seed=1)), [file, None], mask


def test_what_a_mask_ignores_has_no_weight_and_keeps_its_colour(tmp_path: Path) -> None:
    paths, masks, mask = masks_of(tmp_path)
    images = Images.load(paths, masks=masks, mask_meaning="ignore")
    weights = images.weights(*everywhere(images, 0))
    assert weights is not None
    assert weights.view(6, 6).tolist() == (mask >= 128).astype(float).tolist()
    assert images.weight_image(1) is not None
    assert images.weight_image(1).min() == 1
    assert not images.has_alpha
    assert np.allclose(images.image(0), premultiplied(noise(6, 6, 3)), atol=2e-7)
    smaller = Images.load(paths, masks=masks, mask_meaning="ignore", downscale=2)
    # One ignored pixel is enough to ignore the four that become one.
    assert smaller.weight_image(0).tolist() == [[0, 1, 1], [0, 1, 1], [1, 1, 0]]


def test_what_a_mask_calls_empty_is_transparent(tmp_path: Path) -> None:
    paths, masks, mask = masks_of(tmp_path)
    images = Images.load(paths, masks=masks, mask_meaning="empty")
    assert images.has_alpha
    assert images.weight_image(0) is None
    assert np.allclose(images.image(0)[..., 3], mask / 255, atol=1e-6)
    assert (images.image(0)[:3, :2] == 0).all()
    assert (images.image(1)[..., 3] == 1).all()


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    paths, masks, _ = masks_of(tmp_path)
    small = tmp_path / "small.png"
    Image.fromarray(noise(6, 5)).save(small)
    with pytest.raises(DataError, match=r"The mask of the image .*0\.png must be 6x6 .* is 5x6"):
        Images.load(paths, masks=[small, None], mask_meaning="empty")
    with pytest.raises(InputError, match=r"a mask or None an image: 2, but got 1"):
        Images.load(paths, masks=masks[:1], mask_meaning="empty")
    with pytest.raises(InputError, match=r"must be 'ignore' or 'empty' for masks, but is None"):
        Images.load(paths, masks=masks)
    Image.fromarray(np.zeros((6, 6), dtype=np.uint8)).save(small)
    with pytest.raises(DataError, match="transparent or masked out"):
        Images.load(paths, masks=[small, small], mask_meaning="ignore")


def test_a_coloured_or_transparent_mask_is_read_as_grey(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    pixels = [[(255, 255, 255, 255), (255, 255, 255, 0), (255, 0, 0, 255)]]
    Image.fromarray(np.array(pixels, dtype=np.uint8)).save(path)
    assert read_mask(path).tolist() == [[255, 0, 85]]


# Memory


def test_images_over_the_budget_take_turns(tmp_path: Path) -> None:
    arrays = [noise(4, 5, 4, seed=i) for i in range(7)]
    paths = written(tmp_path, *arrays)
    images = Images.load(paths, memory_budget=3 * 80 + 79)  # three and almost a fourth
    whole = Images.load(paths)
    assert whole.in_memory
    assert not images.in_memory
    wanted = torch.tensor([6, 0, 2, 3, 5])
    seen: set[int] = set()
    previous: set[int] = set()
    for turn in range(10):
        held = images.hold(wanted, turn)
        assert len(held) == 3
        assert set(held.tolist()) <= set(wanted.tolist())
        assert turn == 0 or len(previous & set(held.tolist())) >= 2
        previous = set(held.tolist())
        seen |= previous
        for i in range(7):  # held or not, the pixels are right
            assert torch.equal(images.image(i), whole.image(i))
            assert torch.equal(images.alpha(i), whole.alpha(i))
            assert torch.equal(
                images.gather(*everywhere(images, i)), whole.gather(*everywhere(whole, i))
            )
    assert seen == {0, 2, 3, 5, 6}
    assert (
        images.hold(wanted, 4).tolist()
        == Images.load(paths, memory_budget=300).hold(wanted, 4).tolist()
    )
    assert sorted(images.hold(torch.tensor([1, 4]), 9).tolist()) == [1, 4]
    assert torch.equal(whole.hold(wanted, 3), wanted)


def test_weights_of_images_over_the_budget(tmp_path: Path) -> None:
    paths, masks, mask = masks_of(tmp_path)
    images = Images.load(paths, masks=masks, mask_meaning="ignore", memory_budget=150)
    assert not images.in_memory
    for hold in ([], [0], [1]):
        images.hold(torch.tensor(hold, dtype=torch.int64))
        weights = images.weights(*everywhere(images, 0))
        assert weights is not None
        assert weights.view(6, 6).tolist() == (mask >= 128).astype(float).tolist()


def test_one_image_over_the_budget_names_the_downscale_that_fits(tmp_path: Path) -> None:
    paths = written(tmp_path, noise(60, 60, 4))
    with pytest.raises(
        InputError, match=r"One image takes 0\.0 MB.*--downscale (\d+) would fit"
    ) as e:
        Images.load(paths, memory_budget=5000)
    k = int(str(e.value).split("--downscale ")[1].split()[0])
    assert Images.load(paths, memory_budget=5000, downscale=k).in_memory


def test_threads_do_not_change_the_result(tmp_path: Path) -> None:
    paths = written(tmp_path, *(noise(9, 9, 4, seed=i) for i in range(8)))
    one, many = (Images.load(paths, downscale=2, threads=n) for n in (1, 5))
    assert all(torch.equal(one.image(i), many.image(i)) for i in range(8))


def test_lego_is_what_pillow_reads(data_dir: Path) -> None:
    path = data_dir / "scenes/blender-lego/test/r_8.png"
    images = Images.load([path], sizes=np.array([[800, 800]]))
    straight = np.asarray(Image.open(path))
    assert images.has_alpha
    assert np.allclose(images.image(0), premultiplied(straight), atol=2e-7)
