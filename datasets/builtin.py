"""The built-in scene: a still life of known geometry, rendered here, so that all works without data.

The solids are in `still_life`, the ray caster in `raycast`. Everything lies in [-1, 1]^3, z is up,
the background is transparent. Depth, normals and alpha of every view and the true mesh
(`builtin_mesh`) are known.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor

from polyfield.datasets.cameras import Cameras
from polyfield.datasets.images import Images
from polyfield.datasets.lenses import Lens
from polyfield.datasets.raycast import Hits, Point, Points, cast
from polyfield.datasets.scene import Scene, fingerprint
from polyfield.datasets.still_life import SOLIDS, colours
from polyfield.errors import InputError, ShapeError

__all__ = [
    "builtin_depth",
    "builtin_fingerprint",
    "builtin_normals",
    "builtin_scene",
    "render_solids",
]

# Stands for the pixels in the fingerprint: their last bits may differ between machines. Count on when they change.
_EDITION = b"still life 1"
_RADIUS = 3.0  # of the sphere of cameras around _MIDDLE
_MIDDLE = (0.0, 0.0, -0.1)
_FOCAL = 1.35  # over the image size: the plinth just fits the picture
_LOWEST, _HIGHEST = -15.0, 70.0  # degrees above the horizon

# Four samples a pixel on a turned square: edges that are nearly level or upright look smooth too.
_SAMPLES = ((0.125, 0.375), (0.375, 0.875), (0.625, 0.125), (0.875, 0.625))
_CHUNK = 1 << 15  # rays at a time: the arrays of a step stay in the cache


def builtin_scene(views: int = 60, size: int = 200, downscale: int = 1) -> Scene:
    """Make the built-in scene. Takes a few seconds; asked again for the same, it is there at once.

    Args:
        views: Number of cameras, >= 2, spread over a sphere from a little below the plinth to
            nearly above it. Every 8th is a test view.
        size: Width and height of the pictures before downscaling.
        downscale: K of the box filter, as for any scene.

    Raises:
        InputError: Fewer than 2 views, or a size below 1.
    """
    if views < 2 or size < 1:
        raise InputError(
            f"The built-in scene needs 2 views and 1 pixel at least, but got {views} and {size}."
        )
    cameras = _cameras(views, size)
    images = Images.from_arrays(_pictures(views, size), downscale)
    names = _names(views)
    return Scene(
        name="builtin",
        path=None,
        format="builtin",
        reason="It is the built-in scene.",
        cameras=cameras.resized(downscale),
        images=images,
        names=names,
        split={
            "train": tuple(i for i in range(views) if i % 8 != 0),
            "val": (),
            "test": tuple(range(0, views, 8)),
        },
        box=torch.tensor([[-1.0] * 3, [1.0] * 3], dtype=torch.float64),
        near=_RADIUS - 1.1,
        far=_RADIUS + 1.1,
        unbounded=False,
        forward_facing=False,
        points=None,
        point_colors=None,
        world_from_data=torch.eye(4, dtype=torch.float64),
        warnings=(),
        fingerprint=builtin_fingerprint(views, size),
        holdout="every 8th image by name",
    )


def builtin_fingerprint(views: int = 60, size: int = 200) -> str:
    """Give the fingerprint that `builtin_scene` has, without rendering it."""
    return fingerprint(_names(views), _cameras(views, size), (_EDITION,) * views)


def builtin_depth(scene: Scene, i: int) -> Float32[Tensor, "H W"]:
    """Give the true depth of view i: along each pixel's central ray, from the camera to the surface.

    It is inf where nothing is met. World units, right to about 1e-4.
    """
    width, height = scene.cameras.size[i].tolist()
    return torch.from_numpy(
        np.concatenate([hits.t for hits, _, _ in _central(scene, i)]).reshape(height, width)
    )


def builtin_normals(scene: Scene, i: int) -> Float32[Tensor, "H W 3"]:
    """Give the true unit normals of view i, in the world; 0 where nothing is met."""
    width, height = scene.cameras.size[i].tolist()
    parts = []
    for hits, origin, directions in _central(scene, i):
        normals = np.zeros_like(directions)
        for number, solid in enumerate(SOLIDS):
            at = np.flatnonzero(hits.solid == number)
            normals[:, at] = solid.normal(origin + hits.t[at] * directions[:, at])
        parts.append(normals.T)
    return torch.from_numpy(np.concatenate(parts).reshape(height, width, 3))


def render_solids(cameras: Cameras, i: int) -> Float32[Tensor, "H W 4"]:
    """Render the solids as camera i sees them, with any lens: premultiplied sRGB and alpha."""
    width, height = cameras.size[i].tolist()
    result = np.zeros((width * height, 4), dtype=np.float32)
    share = np.float32(1 / len(_SAMPLES))
    for x, y in _SAMPLES:
        start = 0
        for hits, origin, directions in _cast(cameras, i, x, y):
            met = np.flatnonzero(hits.met)
            if met.size:
                t, d = hits.t[met], directions[:, met]
                shown = colours(Hits(t, hits.solid[met]), origin + t * d, d)
                result[start + met, :3] += share * shown.T
                result[start + met, 3] += share
            start += hits.t.size
    return torch.from_numpy(result.reshape(height, width, 4))


def _central(scene: Scene, i: int) -> Iterator[tuple[Hits, Point, Points]]:
    if scene.format != "builtin":
        raise ShapeError(f"Only the built-in scene has true geometry, but {scene.name} came.")
    return _cast(scene.cameras, i, 0.5, 0.5)


def _cast(cameras: Cameras, i: int, x: float, y: float) -> Iterator[tuple[Hits, Point, Points]]:
    """Cast a ray through place (x, y) of every pixel, row by row, in chunks."""
    width, height = cameras.size[i].tolist()
    for start in range(0, width * height, _CHUNK):
        pixel = torch.arange(start, min(start + _CHUNK, width * height))
        places = torch.stack([pixel % width + x, pixel // width + y], dim=1)
        origins, directions = cameras.rays(torch.full_like(pixel, i), places)
        o, d = origins[:1].numpy().T, np.ascontiguousarray(directions.numpy().T)
        yield cast(SOLIDS, o, d), o, d


def _names(views: int) -> tuple[str, ...]:
    digits = len(str(views - 1))
    return tuple(f"view_{i:0{digits}}.png" for i in range(views))


def _cameras(views: int, size: int) -> Cameras:
    poses = torch.stack([_looking_from(place) for place in _places(views)])
    return Cameras(
        world_from_camera=poses,
        focal=torch.full((views, 2), _FOCAL * size, dtype=torch.float64),
        center=torch.full((views, 2), size / 2, dtype=torch.float64),
        size=torch.full((views, 2), size),
        lenses=(Lens(),) * views,
    )


def _places(views: int) -> Iterator[tuple[float, float]]:
    """Azimuth and elevation in radians: a golden spiral, gone through in strides.

    A stride makes any regular choice of views, such as every 8th, see all sides too.
    """
    low, high = (math.sin(math.radians(angle)) for angle in (_LOWEST, _HIGHEST))
    stride = next(s for s in range(11, 11 + views) if math.gcd(s, views) == 1)
    for i in range(views):
        k = i * stride % views
        height = low + (high - low) * (k + 0.5) / views
        yield k * math.pi * (3 - math.sqrt(5)), math.asin(height)


def _looking_from(place: tuple[float, float]) -> Float64[Tensor, "3 4"]:
    """Pose of a camera on the sphere that looks at its middle, upright; OpenCV axes."""
    azimuth, elevation = place
    out = torch.tensor(
        [
            math.cos(elevation) * math.cos(azimuth),
            math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
        ],
        dtype=torch.float64,
    )
    right = torch.tensor([-math.sin(azimuth), math.cos(azimuth), 0.0], dtype=torch.float64)
    down = torch.linalg.cross(-out, right)
    middle = torch.tensor(_MIDDLE, dtype=torch.float64)
    return torch.stack([right, down, -out, middle + _RADIUS * out], dim=1)


@lru_cache(maxsize=16)
def _pictures(views: int, size: int) -> tuple[UInt8[np.ndarray, "H W 4"], ...]:
    """Render all views, as a PNG file would hold them: straight colour in 8 bits."""
    cameras = _cameras(views, size)

    def picture(i: int) -> np.ndarray:
        rgba = render_solids(cameras, i).numpy()
        rgba[..., :3] /= np.maximum(rgba[..., 3:], 1e-6)
        pixels: np.ndarray = np.rint(rgba * 255).astype(np.uint8)
        return pixels

    with ThreadPoolExecutor() as pool:
        return tuple(pool.map(picture, range(views)))
