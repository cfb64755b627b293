"""Batches of training rays: random pixels of the training views, with the colour each should have."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from polyfield.datasets.scene import Scene
from polyfield.errors import InputError
from polyfield.training.interest import Interest

__all__ = ["RayBatch", "RaySource"]

# Rays are drawn this many at a time and handed out in slices: a draw costs some twenty small tensor operations,
# which would be a tenth of a training step if paid each time.
_BLOCK = 1 << 16
_TURN = 8  # blocks between changes of the images in memory, where not all fit


@dataclass
class RayBatch:
    """R rays and what they should see.

    Attributes:
        origins, directions: In the world; directions are unit vectors.
        color: Premultiplied by alpha, sRGB in [0, 1].
        alpha: How much of the pixel is covered.
        weights: 0 where a mask says that the pixel does not count, or None.
        camera_ids: Which view.
    """

    origins: Float[Tensor, "R 3"]
    directions: Float[Tensor, "R 3"]
    color: Float[Tensor, "R 3"]
    alpha: Float[Tensor, " R"]
    weights: Float[Tensor, " R"] | None
    camera_ids: Int[Tensor, " R"]

    def __len__(self) -> int:
        return int(self.origins.shape[0])

    def slice(self, begin: int, end: int) -> "RayBatch":
        """Rays begin to end - 1."""
        return RayBatch(
            self.origins[begin:end],
            self.directions[begin:end],
            self.color[begin:end],
            self.alpha[begin:end],
            None if self.weights is None else self.weights[begin:end],
            self.camera_ids[begin:end],
        )


class RaySource:
    """Draws training rays, the same ones for the same seed and the same requests.

    Each block of rays has its own generator, made from the seed and the block's number, so that the position in the
    stream is two integers, and a resumed run goes on with the same rays if it has the same interest.

    Args:
        scene: Its training views are drawn from, each pixel (of interest) as likely as any other.
        seed: Of the draws.
        interest: If given, only pixels that are worth it are drawn.

    Attributes:
        block, offset: Position in the stream.
        interest: May be changed where `at_block` says so.

    Raises:
        InputError: There are no training views.
    """

    def __init__(self, scene: Scene, seed: int, interest: Interest | None = None) -> None:
        if not scene.split["train"]:
            raise InputError(f"{scene.name} has no training views; all of them are held out.")
        self._scene = scene
        self._seed = seed
        self.interest = interest
        self._views = torch.tensor(scene.split["train"], dtype=torch.int64)
        self.block = 0
        self.offset = 0
        self._rays: RayBatch | None = None

    @property
    def at_block(self) -> bool:
        """Whether the next rays are the first ones of a block, all of which are drawn with the same interest."""
        return self.offset in (0, _BLOCK)

    def next(self, count: int) -> RayBatch:
        """Draw `count` rays (at most 65,536 at once, fewer at the end of a block)."""
        if self._rays is None:
            self._rays = self._draw(self.block)
        if self.offset >= _BLOCK:
            self.block, self.offset = self.block + 1, 0
            self._rays = self._draw(self.block)
        begin, end = self.offset, min(self.offset + count, _BLOCK)
        self.offset = end
        return self._rays.slice(begin, end)

    def seek(self, block: int, offset: int) -> None:
        """Go to a position in the stream, as `block` and `offset` told it.

        Raises:
            ValueError: There is none such.
        """
        if not 0 <= block < 1 << 62 or not 0 <= offset <= _BLOCK:
            raise ValueError(
                f"a place in the stream of rays has a block >= 0 and an offset of 0 to {_BLOCK}, but "
                f"{str(block)[:20]} and {str(offset)[:20]} came"
            )
        self.block, self.offset, self._rays = block, offset, None

    def _draw(self, block: int) -> RayBatch:
        # torch's generator takes 32 bits of seed: an odd factor spreads seeds over them, so that streams lie far apart.
        generator = Generator().manual_seed((self._seed * 2654435761 + block) % (1 << 32))
        # Where memory is short, some of the images take turns; else all are there.
        views = self._scene.images.hold(self._views, turn=block // _TURN)
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        while sum(len(x) for _, x, _ in parts) < _BLOCK:
            parts.append(self._pixels(views, generator))
        camera, x, y = (torch.cat(column)[:_BLOCK] for column in zip(*parts, strict=True))
        centers = torch.stack([x, y], dim=-1).to(torch.float32) + 0.5
        origins, directions = self._scene.cameras.rays(camera, centers)
        rgba = self._scene.images.gather(camera, x, y)
        weights = self._scene.images.weights(camera, x, y)
        return RayBatch(origins, directions, rgba[:, :3], rgba[:, 3], weights, camera)

    def _pixels(self, views: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw about a block of pixels: camera, x and y of each."""
        if self.interest is not None:
            drawn = self.interest.draw(views, _BLOCK, generator)
            if drawn is not None:  # else these images show nothing at all
                return drawn
        sizes = self._scene.images.sizes[views]
        counts = sizes.prod(1)
        ends = counts.cumsum(0)
        pixel = torch.randint(int(ends[-1]), (_BLOCK,), generator=generator)
        view = torch.searchsorted(ends, pixel, right=True)
        pixel -= (ends - counts).index_select(0, view)
        width = sizes[:, 0].index_select(0, view)
        y = torch.div(pixel, width, rounding_mode="floor")
        return views.index_select(0, view), pixel - y * width, y
