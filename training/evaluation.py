"""Evaluating a model on the views of a scene, and drawing views."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polyfield.datasets.cameras import Cameras
from polyfield.datasets.pictures import save_png
from polyfield.datasets.scene import Scene
from polyfield.errors import InputError
from polyfield.fields.model import Model
from polyfield.renderers.registry import renderer_for
from polyfield.renderers.rendered import Rendered, Renderer
from polyfield.training.metrics import BEST_PSNR, psnr, ssim

__all__ = ["Window", "draw_view", "evaluate_model", "pixel_rays"]

Window = tuple[slice, slice]
"""Rows and columns of a picture."""

_WHOLE: Window = (slice(None), slice(None))


def pixel_rays(cameras: Cameras, view: int, window: Window = _WHOLE) -> tuple[Tensor, Tensor]:
    """Rays through the pixel centres of a view or a window of it, row by row: origins and directions [H*W, 3]."""
    width, height = (int(v) for v in cameras.size[view])
    rows, columns = window
    y, x = torch.meshgrid(torch.arange(height)[rows], torch.arange(width)[columns], indexing="ij")
    pixels = torch.stack([x, y], dim=-1).reshape(-1, 2).to(torch.float32) + 0.5
    ids = torch.full((pixels.shape[0],), view, dtype=torch.int64)
    return cameras.rays(ids, pixels)


def draw_view(
    renderer: Renderer,
    cameras: Cameras,
    view: int,
    background: tuple[float, float, float],
    window: Window = _WHOLE,
) -> Rendered:
    """Draw one view of some cameras, or a window of it; the tensors of the result are flat, row by row."""
    origins, directions = pixel_rays(cameras, view, window)
    return renderer.render_rays(
        origins, directions, torch.tensor(background).expand(origins.shape[0], 3)
    )


def evaluate_model(
    model: Model,
    scene: Scene,
    split: str = "test",
    *,
    pictures: Path | None = None,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
    on_view: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Compare what a model shows with the photographs of a split.

    Transparent pixels of the photographs, and the model, are put on the model's background. Pixels that a mask
    ignores are left out of PSNR; SSIM sees them as equal; a view of nothing else is left out. PSNR counts as 100 dB at
    most.

    Args:
        model: What to evaluate.
        scene: What it should look like.
        split: "train", "val" or "test".
        pictures: Folder to save what is seen to.
        perceptual: A distance between two pictures [H, W, 3], such as LPIPS; None: not computed.
        on_view: Called with the number of views done and of all.

    Returns:
        "psnr", "ssim" and "lpips" (means over views; None where not computed), "views", "split", "per_view" and
        "render_seconds" a view.

    Raises:
        InputError: The split has no views, or masks ignore all of them.
    """
    views = scene.split.get(split, ())
    if not views:
        filled = ", ".join(name for name, ids in scene.split.items() if ids) or "none"
        raise InputError(f"{scene.name} has no {split} views to evaluate; it has: {filled}.")
    renderer = renderer_for(model)
    rows: list[dict[str, Any]] = []
    distances: list[float] = []
    seconds = 0.0
    for done, (view, seen, truth, weights, spent) in enumerate(
        _pairs(renderer, scene, views, model.background), start=1
    ):
        seconds += spent
        if on_view is not None:
            on_view(done, len(views))
        quality = 0.0
        if weights is not None:
            if not weights.any():
                continue
            seen = torch.where(weights[..., None] > 0, seen, truth)
            quality = 10 * math.log10(float(weights.mean()))
        quality = min(quality + psnr(seen, truth), BEST_PSNR)
        name = scene.names[view]
        rows.append({"name": name, "psnr": quality, "ssim": ssim(seen, truth)})
        if perceptual is not None:
            distances.append(float(perceptual(seen, truth)))
        if pictures is not None:
            save_png(pictures / f"{split}_{done - 1:03d}_{Path(name).stem}.png", seen)
    if not rows:
        raise InputError(f"The masks of {scene.name} ignore every pixel of its {split} views.")
    return {
        "split": split,
        "views": len(rows),
        "psnr": sum(row["psnr"] for row in rows) / len(rows),
        "ssim": sum(row["ssim"] for row in rows) / len(rows),
        "lpips": sum(distances) / len(distances) if distances else None,
        "per_view": rows,
        "render_seconds": seconds / len(views),
    }


def _pairs(
    renderer: Renderer,
    scene: Scene,
    views: tuple[int, ...],
    background: tuple[float, float, float],
) -> Iterator[tuple[int, Tensor, Tensor, Tensor | None, float]]:
    for view in views:
        width, height = (int(v) for v in scene.images.sizes[view])
        started = time.monotonic()
        seen = draw_view(renderer, scene.cameras, view, background).color
        spent = time.monotonic() - started
        rgba = scene.images.image(view)
        truth = rgba[..., :3] + (1.0 - rgba[..., 3:]) * torch.tensor(background)
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        ids = torch.full((height * width,), view, dtype=torch.int64)
        weights = scene.images.weights(ids, x.reshape(-1), y.reshape(-1))
        shaped = None if weights is None else weights.reshape(height, width)
        yield view, seen.reshape(height, width, 3), truth, shaped, spent
