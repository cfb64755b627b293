"""Carving: which cells of an occupancy grid the silhouettes of an object leave possible (its visual hull).

A cell is carved away when some view shows it to be empty: the cell is in front of the camera, its picture lies wholly
inside the image, and every pixel that it touches has alpha 0. What no view judges is kept.

See: Laurentini (1994), "The visual hull concept for silhouette-based image understanding".
"""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.ops.floats import check_floats

__all__ = ["carve", "carve_reference"]


def carve(
    low: Float[Tensor, "L 3"],
    high: Float[Tensor, "L 3"],
    resolution: int,
    world_from_camera: Float[Tensor, "C 3 4"],
    focal: Float[Tensor, "C 2"],
    center: Float[Tensor, "C 2"],
    alphas: Iterable[Float[Tensor, "H W"]],
) -> Bool[Tensor, "L n n n"]:
    """Find the cells that no pinhole view shows to be empty.

    Args:
        low, high: Corners of each level's box, world units.
        resolution: Cells along each side.
        world_from_camera: Poses, OpenCV axes (x right, y down, z forward).
        focal, center: In pixels; the first pixel's centre is at (0.5, 0.5).
        alphas: One image for each camera, in order, of any size and strides; taken one at a time, so that a generator
            keeps only one in memory.

    Returns:
        [levels, x, y, z]: true for cells that may hold something.

    Raises:
        ShapeError: Shapes do not fit together, an image is not of floats, or there is not one for each camera.
    """
    views = _views(world_from_camera, focal, center, alphas)
    levels, sides = low.shape[0], (resolution,) * 3
    if low.ndim != 2 or low.shape[1] != 3 or high.shape != low.shape:
        raise ShapeError(
            f"carve: low and high must both be [L, 3], but are {list(low.shape)} and "
            f"{list(high.shape)}."
        )
    low = low.float().contiguous()
    half = ((high.float() - low) * (0.5 / resolution)).contiguous()
    kept = torch.ones((levels, *sides), dtype=torch.uint8, device=low.device)
    for pose, lens, alpha in views:
        if not native.usable(low, pose, lens, alpha):
            kept &= ~_seen_empty(low, half, resolution, pose, lens, alpha)
            continue
        native.core().carve_view(
            pose.data_ptr(),
            lens.data_ptr(),
            alpha.data_ptr(),
            *alpha.shape,
            *alpha.stride(),
            low.data_ptr(),
            half.data_ptr(),
            levels,
            resolution,
            kept.data_ptr(),
        )
    return kept.to(torch.bool)


def carve_reference(
    low: Float[Tensor, "L 3"],
    high: Float[Tensor, "L 3"],
    resolution: int,
    world_from_camera: Float[Tensor, "C 3 4"],
    focal: Float[Tensor, "C 2"],
    center: Float[Tensor, "C 2"],
    alphas: Iterable[Float[Tensor, "H W"]],
) -> Bool[Tensor, "L n n n"]:
    """Compute `carve` in plain torch, in the precision of `low`."""
    half = (high - low) * (0.5 / resolution)
    kept = torch.ones((low.shape[0], *(resolution,) * 3), dtype=torch.bool, device=low.device)
    for pose, lens, alpha in _views(world_from_camera, focal, center, alphas):
        kept &= ~_seen_empty(low, half, resolution, pose.to(low), lens.to(low), alpha)
    return kept


def _views(
    world_from_camera: Tensor, focal: Tensor, center: Tensor, alphas: Iterable[Tensor]
) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
    """Pose, lens (fx, fy, cx, cy) and image of each view."""
    count = world_from_camera.shape[0]
    if world_from_camera.shape != (count, 3, 4) or not focal.shape == center.shape == (count, 2):
        raise ShapeError(
            f"carve: poses must be [C, 3, 4], focal and center [C, 2], but are "
            f"{list(world_from_camera.shape)}, {list(focal.shape)} and {list(center.shape)}."
        )
    lenses = torch.cat([focal, center], 1).float()
    seen = 0
    for alpha in alphas:
        if seen == count or alpha.ndim != 2:
            raise ShapeError(
                f"carve: wanted {count} alpha images [H, W], but image {seen} is "
                f"{list(alpha.shape)}{' and there are more of them' if seen == count else ''}."
            )
        check_floats("carve", alpha=alpha)
        yield world_from_camera[seen].float().contiguous(), lenses[seen], alpha
        seen += 1
    if seen != count:
        raise ShapeError(
            f"carve: wanted {count} alpha images, one for each camera, but got {seen}."
        )


def _seen_empty(
    low: Tensor, half: Tensor, resolution: int, pose: Tensor, lens: Tensor, alpha: Tensor
) -> Tensor:
    """Which cells this view shows to be empty; see csrc/math/carve.h."""
    height, width = alpha.shape
    filled = torch.zeros(height + 1, width + 1, dtype=torch.int64, device=alpha.device)
    filled[1:, 1:] = (~(alpha <= 0)).long().cumsum(0).cumsum(1)
    steps = 2 * torch.arange(resolution, dtype=low.dtype, device=low.device) + 1
    axes = [low[:, a, None] + steps * half[:, a, None] for a in range(3)]
    points = torch.stack(
        torch.broadcast_tensors(
            axes[0][:, :, None, None], axes[1][:, None, :, None], axes[2][:, None, None, :]
        ),
        -1,
    )
    right, down, forward = pose[:, :3].T
    offset = points - pose[:, 3]
    sizes = half[:, None, None, None]
    z = offset @ forward
    nearest = z - sizes @ forward.abs()
    fits = nearest > 0
    edges = []
    for axis, focal, center, size in (
        (right, lens[0], lens[2], width),
        (down, lens[1], lens[3], height),
    ):
        q = (offset @ axis) / z
        reach = ((axis - q[..., None] * forward).abs() * sizes).sum(-1)
        middle, away = focal * q + center, focal * reach / nearest
        fits = fits & (middle - away >= 0) & (middle + away < size)
        edges += [middle - away, middle + away]
    left, end, top, bottom = (
        torch.where(fits, e, torch.zeros_like(e)).long() + i % 2 for i, e in enumerate(edges)
    )
    count = filled[bottom, end] - filled[bottom, left] - filled[top, end] + filled[top, left]
    empty: Tensor = fits & (count == 0)
    return empty
