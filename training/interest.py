"""Which pixels are worth a training ray, where the images tell by their alpha what is empty.

A ray far from every silhouette crosses only cells that carving has emptied: it has no samples, teaches nothing, and
still costs its march. In a picture of an object that is half of the pixels or more.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int32, Int64
from torch import Generator, Tensor
from torch.nn.functional import max_pool2d, pad

from polyfield.datasets.scene import Scene

__all__ = ["Interest"]

_BITS = 3
_TILE = 1 << _BITS  # pixels to a side of the tiles that are told apart


@dataclass(frozen=True)
class Interest:
    """Tiles of the images that are worth rays.

    Attributes:
        tiles: View of each tile, and column and row of its first pixel; view after view.
        starts: Those of image i are `tiles[starts[i] : starts[i + 1]]`; C + 1 entries.
        sizes: Width and height of the images in pixels: the last tiles of a row or column may reach over the edge.
    """

    tiles: Int32[Tensor, "T 3"]
    starts: Int64[Tensor, " C+1"]
    sizes: Int64[Tensor, "C 2"]

    @staticmethod
    def of(scene: Scene, views: tuple[int, ...], cell: float) -> "Interest":
        """Find the tiles near something that is not transparent.

        Args:
            scene: With alpha.
            views: Which images.
            cell: Diagonal of a cell of the occupancy grid, in world units: carving keeps a cell that touches a
                silhouette, so this far around it, as the nearest thing appears, rays still meet samples.
        """
        counts = torch.zeros(len(scene.names) + 1, dtype=torch.int64)
        parts = []
        for view in sorted(views):
            shown = _tiles(scene.images.alpha(view) > 0).float()[None]
            margin = cell / max(scene.near, cell) * float(scene.cameras.focal[view].max())
            reach = math.ceil(margin / _TILE)
            tiles = max_pool2d(shown, 2 * reach + 1, stride=1, padding=reach)
            row, column = (tiles[0] > 0).nonzero().to(torch.int32).unbind(1)
            parts.append(torch.stack([torch.full_like(row, view), column * _TILE, row * _TILE], 1))
            counts[view + 1] = len(row)
        return Interest(torch.cat(parts), counts.cumsum(0), scene.images.sizes)

    def draw(
        self, views: Int64[Tensor, " V"], count: int, generator: Generator
    ) -> tuple[Int64[Tensor, " R"], Int64[Tensor, " R"], Int64[Tensor, " R"]] | None:
        """Draw from the pixels of these views' tiles, each as likely as any other.

        Returns:
            View, x and y of `count` pixels, or of somewhat fewer where tiles reach over an edge. None where no tile of
            these views is of interest.
        """
        begins, ends = self.starts[views], self.starts[views + 1]
        tiles = self.tiles
        if int((ends - begins).sum()) < len(tiles):
            parts = zip(begins.tolist(), ends.tolist(), strict=True)
            tiles = torch.cat([tiles[begin:end] for begin, end in parts])
        if not len(tiles):
            return None
        pixel = torch.randint(len(tiles) << 2 * _BITS, (count,), generator=generator)
        view, x, y = tiles.index_select(0, pixel >> 2 * _BITS).t().long()
        x += pixel & _TILE - 1
        y += pixel >> _BITS & _TILE - 1
        if bool((self.sizes % _TILE == 0).all()):
            return view, x, y
        width, height = self.sizes.index_select(0, view).t()
        inside = ((x < width) & (y < height)).nonzero()[:, 0]
        return view[inside], x[inside], y[inside]


def _tiles(shown: Bool[Tensor, "H W"]) -> Bool[Tensor, "h w"]:
    """Which tiles hold a pixel that is shown."""
    height, width = shown.shape
    padded = pad(shown, (0, -width % _TILE, 0, -height % _TILE))
    rows = padded.view(padded.shape[0] // _TILE, _TILE, -1).any(1)
    return rows.view(len(rows), -1, _TILE).any(2)
