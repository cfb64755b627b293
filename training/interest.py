"""Which pixels are worth a training ray.

A ray that crosses only empty cells has no samples, teaches nothing, and still costs its march. In a picture of an
object that is half of the pixels or more.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int32, Int64
from torch import Generator, Tensor

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
    def of(
        scene: Scene, views: tuple[int, ...], centers: Float[Tensor, "M 3"], radius: float
    ) -> "Interest":
        """Find the tiles before which there may be something.

        Args:
            scene: Seen by cameras without distortion.
            views: Which images.
            centers, radius: Balls outside of which there is nothing, world units.
        """
        points, cameras = centers.double(), scene.cameras

        def before_balls(view: int) -> Tensor:
            width, height = (-(-side // _TILE) for side in cameras.size[view].tolist())
            pose = cameras.world_from_camera[view]
            local = (points - pose[:, 3]) @ pose[:, :3]
            # Around the camera or beside it: no bounds.
            if bool((local[:, 2].abs() <= radius).any()):
                return torch.ones(height, width, dtype=torch.bool)
            x, y, z = local[local[:, 2] > radius].t()
            low, high = [], []
            for side, place, axis in ((width, x, 0), (height, y, 1)):
                # (x + a) / (z + b) - x / z for all |a|, |b| <= radius
                reach = radius / (z - radius) * (1.0 + place.abs() / z)
                focal, middle = cameras.focal[view, axis], cameras.center[view, axis]
                first = (middle + focal * (place / z - reach)) / _TILE
                last = (middle + focal * (place / z + reach)) / _TILE
                low.append(first.floor().clamp(0, side).long())
                high.append((last.floor() + 1.0).clamp(0, side).long())
            # Rectangles of tiles, counted at their corners; sums over both axes then count them everywhere.
            counts = torch.zeros((height + 1) * (width + 1))
            one = torch.ones(len(z))
            for columns, rows, sign in (
                (low[0], low[1], 1.0),
                (high[0], low[1], -1.0),
                (low[0], high[1], -1.0),
                (high[0], high[1], 1.0),
            ):
                counts.index_add_(0, rows * (width + 1) + columns, one, alpha=sign)
            return counts.view(height + 1, width + 1).cumsum(0).cumsum(1)[:-1, :-1] > 0.5

        starts = torch.zeros(len(scene.names) + 1, dtype=torch.int64)
        parts = []
        for view in sorted(views):
            row, column = before_balls(view).nonzero().to(torch.int32).unbind(1)
            parts.append(torch.stack([torch.full_like(row, view), column * _TILE, row * _TILE], 1))
            starts[view + 1] = len(row)
        return Interest(torch.cat(parts), starts.cumsum(0), scene.images.sizes)

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
