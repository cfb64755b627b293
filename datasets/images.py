"""The pictures of a scene in memory: loaded in parallel, gathered pixel by pixel.

Axes: C images, R pixels asked for, H and W of one image. Colours are sRGB in [0, 1]; what comes out
is premultiplied by alpha: the pixel over a background b is `rgb + (1 - alpha) * b`.

Pixels are kept flat, image after image, row after row, in the forms of `image_source`. Images that
do not fit the memory budget stay in their files; `Images.hold` says which of them are in memory.
"""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int, Int64, UInt8
from torch import Tensor

from polyfield import native
from polyfield.datasets.decode import read_header
from polyfield.datasets.image_source import FULL, ImageSource, MaskMeaning
from polyfield.errors import DataError, InputError, ShapeError

__all__ = ["Images", "free_memory"]


class Images:
    """The images of a scene. Make one with `Images.load` or `Images.from_arrays`.

    Attributes:
        sizes: Width and height of each image as given out, int64 [C, 2].
        full_sizes: Width and height before downscaling; `sizes` is `full_sizes // downscale`.
        downscale: K of the box filter; 1 leaves the pixels as they are.
        has_alpha: Whether any pixel is not opaque (where not all images are in memory: whether the
            files allow it).
        in_memory: Whether all images fit the budget, so that `hold` has nothing to do.
    """

    def __init__(
        self,
        sources: Sequence[ImageSource],
        channels: int,
        downscale: int,
        threads: int,
        budget: int,
    ) -> None:
        if downscale < 1:
            raise InputError(f"--downscale must be a whole number >= 1, but is {downscale}.")
        if threads < 1:
            raise InputError(f"--threads must be at least 1, but is {threads}.")
        self._sources, self._threads, self.downscale = tuple(sources), threads, downscale
        for source in sources:
            if min(source.size) < downscale:
                width, height = source.size
                raise InputError(
                    f"{source.name} is {width}x{height}: --downscale {downscale} leaves nothing."
                )
        self.full_sizes: Int64[Tensor, "C 2"] = torch.tensor([s.size for s in sources])
        self.sizes: Int64[Tensor, "C 2"] = self.full_sizes // downscale
        masked = any(s.mask is not None and s.meaning == "ignore" for s in sources)
        counts = self.sizes.prod(dim=1)
        self._slots = _slots(counts, channels * min(downscale, 2) + masked, budget, downscale)
        self._slot = int(counts.max())  # pixels that one slot has room for
        self._slot_of: dict[int, int] = {}
        self.in_memory = self._slots == len(sources)
        room = int(counts.sum()) if self.in_memory else self._slots * self._slot
        kind = torch.uint8 if downscale == 1 else torch.int16
        self._pixels = torch.empty((room, channels), dtype=kind)
        self._weights = torch.ones(room, dtype=torch.uint8) if masked else None
        # Where each image starts in the flat arrays; -1: not in memory.
        self._start = torch.full((len(sources),), -1, dtype=torch.int64)
        self._width = self.sizes[:, 0].contiguous()
        self.has_alpha = channels == 4
        if self.in_memory:
            starts = (counts.cumsum(0) - counts).tolist()
            seen, opaque = self._fill(list(enumerate(starts)))
            if not seen:
                raise DataError(_nothing_to_see(sources))
            self.has_alpha = not opaque

    @classmethod
    def load(
        cls,
        paths: Sequence[Path],
        sizes: Int[np.ndarray, "C 2"] | None = None,
        masks: Sequence[Path | None] | None = None,
        mask_meaning: MaskMeaning | None = None,
        downscale: int = 1,
        threads: int | None = None,
        memory_budget: int | None = None,
    ) -> "Images":
        """Load image files.

        Args:
            paths: One file an image (PNG, JPEG, WebP, BMP, TIFF, PPM).
            sizes: Width and height that each file must have, or None to take them as they are.
            masks: One mask file or None an image; white is inside, black outside.
            mask_meaning: What outside means. "ignore": nothing is known there, the weight is 0.
                "empty": nothing is there, the pixel is transparent. Needed where there are masks.
            downscale: K >= 1: K x K pixels become one, the mean of their premultiplied colour.
                Where a side is no multiple of K, up to K - 1 pixels are cut off at the right or
                the bottom. A pixel is ignored when any of its K x K pixels is.
            threads: Number of files decoded at a time; None for one a processor.
            memory_budget: Bytes that pixels may take; None for half of the memory that is free.

        Raises:
            DataError: A file is missing, broken, of another size than declared, or there is
                nothing to see: all images are transparent or all pixels ignored.
            InputError: The arguments do not fit each other, or the budget is less than one image.
        """
        if len(paths) == 0:
            raise InputError("Images.load needs at least one image, but the list is empty.")
        if masks is None:
            masks = [None] * len(paths)
        if len(masks) != len(paths):
            raise InputError(
                f"Images.load needs a mask or None an image: {len(paths)}, but got {len(masks)}."
            )
        if any(masks) and mask_meaning not in ("ignore", "empty"):
            raise InputError(
                f"mask_meaning must be 'ignore' or 'empty' for masks, but is {mask_meaning!r}."
            )
        headers = [read_header(Path(path)) for path in paths]
        actual = [(h.width, h.height) for h in headers]
        if sizes is not None:
            _check_sizes(paths, actual, np.asarray(sizes))
        meaning: MaskMeaning = mask_meaning or "ignore"
        sources = [
            ImageSource.file(Path(path), size, None if mask is None else Path(mask), meaning)
            for path, size, mask in zip(paths, actual, masks, strict=True)
        ]
        emptied = meaning == "empty" and any(masks)
        return cls(
            sources,
            4 if emptied or any(h.alpha for h in headers) else 3,
            downscale,
            threads if threads is not None else (os.cpu_count() or 1),
            memory_budget if memory_budget is not None else free_memory() // 2,
        )

    @classmethod
    def from_arrays(
        cls, arrays: Sequence[UInt8[np.ndarray, "_ _ _"]], downscale: int = 1
    ) -> "Images":
        """Take images from memory: uint8 [H, W, 3 or 4] each, straight, as a PNG file holds them.

        Raises:
            ShapeError: An array is of another kind or shape.
            DataError: All images are transparent.

        Example:
            >>> images = Images.from_arrays([np.full((2, 3, 4), 255, np.uint8)])
            >>> images.sizes.tolist(), images.has_alpha
            ([[3, 2]], False)
        """
        if len(arrays) == 0:
            raise InputError("Images.from_arrays needs at least one image, but got none.")
        for i, array in enumerate(arrays):
            fits = array.ndim == 3 and array.shape[-1] in (3, 4) and array.size > 0
            if array.dtype != np.uint8 or not fits:
                raise ShapeError(
                    f"Images.from_arrays: image {i} must be uint8 [H, W, 3 or 4], but is "
                    f"{array.dtype} {list(array.shape)}."
                )

        sources = [ImageSource.array(f"Image {i}", array) for i, array in enumerate(arrays)]
        channels = max(a.shape[-1] for a in arrays)
        return cls(sources, channels, downscale, os.cpu_count() or 1, _NO_LIMIT)

    def __len__(self) -> int:
        """Count the images."""
        return len(self._sources)

    def digests(self) -> list[bytes]:
        """Hash what each image holds before masks are applied and sizes reduced, for the scene's fingerprint.

        Of large images pieces are hashed, without decoding them.

        Raises:
            DataError: A file cannot be read any more.
        """
        return [source.digest() for source in self._sources]

    def gather(
        self, camera_ids: Int[Tensor, " R"], x: Int[Tensor, " R"], y: Int[Tensor, " R"]
    ) -> Float32[Tensor, "R 4"]:
        """Look up pixels: premultiplied red, green, blue, and alpha.

        Args:
            camera_ids: Which image, 0 .. C-1. One that is not held is decoded for this call (slow).
            x: Column, 0 .. width-1. Not checked: beyond the edge lies the next row.
            y: Row, 0 .. height-1.

        Raises:
            IndexError: A pixel lies beyond the last image.
        """
        if not self.in_memory and bool((self._start.index_select(0, camera_ids) < 0).any()):
            result = torch.empty(len(x), 4, dtype=torch.float32)
            for i in set(camera_ids.tolist()):
                here = camera_ids == i
                result[here] = self.image(i)[y[here], x[here]]
            return result
        fits = camera_ids.ndim == 1 and camera_ids.shape == x.shape == y.shape
        fits = fits and not any(t.is_floating_point() for t in (camera_ids, x, y))
        if fits and self.downscale == 1 and native.usable(camera_ids, x, y):
            return self._gather(*(t.long().contiguous() for t in (camera_ids, x, y)))
        start = self._start.index_select(0, camera_ids)
        pixel = torch.addcmul(start + x, self._width.index_select(0, camera_ids), y)
        return self._given_out(self._pixels.index_select(0, pixel))

    def _gather(self, camera_ids: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Compute `gather` natively, of images in memory at full size."""
        result = torch.empty(len(x), 4, dtype=torch.float32)
        inside = native.core().picture_gather(
            self._pixels.data_ptr(),
            *self._pixels.shape,
            self._start.data_ptr(),
            self._width.data_ptr(),
            len(self),
            camera_ids.data_ptr(),
            x.data_ptr(),
            y.data_ptr(),
            len(x),
            result.data_ptr(),
        )
        if not inside:
            raise IndexError("a pixel lies outside the images")
        return result

    def weights(
        self, camera_ids: Int[Tensor, " R"], x: Int[Tensor, " R"], y: Int[Tensor, " R"]
    ) -> Float32[Tensor, " R"] | None:
        """Say which pixels count: 1, or 0 where a mask says ignore; None where there is no such mask."""
        if self._weights is None:
            return None
        start = self._start.index_select(0, camera_ids)
        if not self.in_memory and bool((start < 0).any()):
            result = torch.empty(len(x), dtype=torch.float32)
            for i in set(camera_ids.tolist()):
                here = camera_ids == i
                result[here] = self._one(i)[1][y[here], x[here]].float()
            return result
        pixel = torch.addcmul(start + x, self._width.index_select(0, camera_ids), y)
        return self._weights.index_select(0, pixel).float()

    def image(self, i: int) -> Float32[Tensor, "H W 4"]:
        """Give a whole image, premultiplied; decoded for this call where it is not in memory."""
        return self._given_out(self._one(i)[0])

    def alpha(self, i: int) -> Float32[Tensor, "H W"]:
        """Give what `image` has as its fourth channel, at a tenth of the cost; 1 everywhere for images without."""
        stored = self._one(i)[0]
        if stored.shape[-1] < 4:
            return torch.ones(stored.shape[:-1])
        return stored[..., 3] * (1 / self._unit)

    def weight_image(self, i: int) -> Float32[Tensor, "H W"] | None:
        """Give the weights of a whole image; None where no image has a mask that says ignore."""
        return None if self._weights is None else self._one(i)[1].float()

    def hold(self, camera_ids: Int[Tensor, " K"], turn: int = 0) -> Int64[Tensor, " M"]:
        """Bring as many of these images into memory as the budget allows, and say which.

        The answer depends on the arguments alone, so that a resumed run sees the same images. A
        trainer calls this with `turn` growing every few hundred steps, and draws its rays from what
        it gets. Each turn keeps half of the images and brings in others; all have their turn.

        Args:
            camera_ids: The images that are wanted, each once.
            turn: Which selection of them: 0, 1, 2, ...

        Returns:
            The images now in memory: `camera_ids` itself when `in_memory`, else M <= K of them.

        Raises:
            DataError: A file is broken, or all these images are transparent or ignored.
        """
        count = len(camera_ids)
        if self.in_memory or count == 0:
            return camera_ids.long()
        # Neighbours in a capture look alike: a shuffled order makes each selection see all sides.
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        held = min(count, self._slots)
        step = max(1, held // 2) if held < count else 0
        wanted = camera_ids.long()[order[(torch.arange(held) + turn * step) % count]]
        ids: list[int] = wanted.tolist()
        for i in set(self._slot_of) - set(ids):
            del self._slot_of[i]
            self._start[i] = -1
        free = sorted(set(range(self._slots)) - set(self._slot_of.values()))
        new = list(zip((i for i in ids if i not in self._slot_of), free, strict=False))
        seen, _ = self._fill([(i, slot * self._slot) for i, slot in new])
        if not seen and len(new) == held:  # where some were kept, a few empty ones are no matter
            raise DataError(_nothing_to_see(self._sources[i] for i in ids))
        self._slot_of.update(new)
        return wanted

    def _one(self, i: int) -> tuple[Tensor, Tensor]:
        """Stored values [H, W, C] and weights [H, W] of an image, decoded if not in memory."""
        start = int(self._start[i])
        if start < 0:
            pixels, weights = self._sources[i].decode(self.downscale, self._pixels.shape[1])
            return torch.from_numpy(pixels), torch.from_numpy(weights)
        width, height = self.sizes[i].tolist()
        part = slice(start, start + width * height)
        ones = torch.ones(1, dtype=torch.uint8).expand(height, width)
        weight = ones if self._weights is None else self._weights[part].view(height, width)
        return self._pixels[part].view(height, width, -1), weight

    @property
    def _unit(self) -> int:
        """What is stored for 1."""
        return 255 if self.downscale == 1 else FULL

    def _given_out(self, stored: Tensor) -> Float32[Tensor, "*R 4"]:
        channels = stored.shape[-1]
        result = torch.ones(*stored.shape[:-1], 4)
        torch.mul(stored, 1 / self._unit, out=result[..., :channels])
        if self.downscale == 1 and channels == 4:
            result[..., :3] *= result[..., 3:]
        return result

    def _fill(self, jobs: Sequence[tuple[int, int]]) -> tuple[bool, bool]:
        """Decode images to their places, (image, start) each.

        Returns:
            Whether there is anything to see, and whether all are opaque.
        """

        def read(job: tuple[int, int]) -> tuple[bool, bool]:
            i, start = job
            pixels, weights = self._sources[i].decode(self.downscale, self._pixels.shape[1])
            part = slice(start, start + weights.size)
            self._pixels[part] = torch.from_numpy(pixels.reshape(weights.size, -1))
            if self._weights is not None:
                self._weights[part] = torch.from_numpy(weights.reshape(-1))
            if pixels.shape[-1] == 3:
                return bool(weights.any()), True
            alpha = pixels[..., 3]
            return bool((alpha * weights).any()), bool((alpha == self._unit).all())

        with ThreadPoolExecutor(self._threads) as pool:
            try:
                results = list(pool.map(read, jobs))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        for i, start in jobs:
            self._start[i] = start
        return any(seen for seen, _ in results), all(opaque for _, opaque in results)


_NO_LIMIT = 2**62


def _slots(counts: Int64[Tensor, " C"], pixel_bytes: int, budget: int, downscale: int) -> int:
    """Count the images that are held at a time."""
    largest = int(counts.max()) * pixel_bytes
    if int(counts.sum()) * pixel_bytes <= budget:
        return len(counts)
    if largest > budget:
        # Stored downscaled, a pixel takes at most 9 bytes.
        full = int(counts.max()) * downscale**2
        fits = int((full * 9 / max(budget, 1)) ** 0.5) + 1
        raise InputError(
            f"One image takes {largest / 1e6:.1f} MB, but all of them together may take "
            f"{budget / 1e6:.1f} MB; --downscale {fits} would fit."
        )
    return min(budget // largest, len(counts) - 1)


def free_memory() -> int:
    """Count the bytes that are free, or take a quarter of all where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


def _check_sizes(
    paths: Sequence[Path], actual: Sequence[tuple[int, int]], wanted: Int[np.ndarray, "C 2"]
) -> None:
    if wanted.shape != (len(paths), 2):
        raise ShapeError(f"sizes must be [{len(paths)}, 2], but is {list(wanted.shape)}.")
    for path, came, size in zip(paths, actual, wanted.tolist(), strict=True):
        if came != tuple(size):
            raise DataError(
                f"The image {path} must be {size[0]}x{size[1]} pixels as its camera says, but is "
                f"{came[0]}x{came[1]}."
            )


def _nothing_to_see(sources: Iterable[ImageSource]) -> str:
    name = next(iter(sources)).name.removeprefix("The image ")
    return (
        f"Every pixel of every image is transparent or masked out (the first is {name}), so there "
        "is nothing to learn from."
    )
