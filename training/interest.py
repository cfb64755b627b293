"""Which pixels are worth a training ray, where the images tell by their alpha what is empty.

A ray far from every silhouette crosses only cells that carving has emptied: it has no samples, teaches nothing, and
still costs its march. In a picture of an object that is half of the pixels or more.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from torch.nn.functional import max_pool2d

from polyfield.datasets.scene import Scene

__all__ = ["Interest"]

_TILE = 8  # pixels to a side of the tiles that are told apart


@dataclass(frozen=True)
class Interest:
    """Tiles of the images that are worth rays.

    Attributes:
        tiles: One entry a tile, row after row, image after image.
        starts: Where each image's tiles begin; -1 for images that were not asked for.
        widths: Tiles in a row of each image.
    """

    tiles: Bool[Tensor, " T"]
    starts: Int64[Tensor, " C"]
    widths: Int64[Tensor, " C"]

    @staticmethod
    def of(scene: Scene, views: tuple[int, ...], cell: float) -> "Interest":
        """Find the tiles near something that is not transparent.

        Args:
            scene: With alpha.
            views: Which images.
            cell: Diagonal of a cell of the occupancy grid, in world units: carving keeps a cell that touches a
                silhouette, so this far around it, as the nearest thing appears, rays still meet samples.
        """
        count = len(scene.names)
        starts = torch.full((count,), -1, dtype=torch.int64)
        widths = torch.zeros(count, dtype=torch.int64)
        parts, begin = [], 0
        for view in views:
            shown = (scene.images.image(view)[..., 3] > 0).float()[None, None]
            margin = cell / max(scene.near, cell) * float(scene.cameras.focal[view].max())
            reach = math.ceil(margin / _TILE)
            tiles = max_pool2d(shown, _TILE, ceil_mode=True)
            tiles = max_pool2d(tiles, 2 * reach + 1, stride=1, padding=reach)
            starts[view], widths[view] = begin, tiles.shape[-1]
            parts.append(tiles.reshape(-1) > 0)
            begin += parts[-1].numel()
        return Interest(torch.cat(parts), starts, widths)

    def worth(
        self, view: Int64[Tensor, " R"], x: Int64[Tensor, " R"], y: Int64[Tensor, " R"]
    ) -> Bool[Tensor, " R"]:
        """Whether pixels lie in tiles of interest."""
        return self.tiles[self.starts[view] + (y // _TILE) * self.widths[view] + x // _TILE]
