"""The page of a comparison: a table, curves over time, the same crop of every field beside the truth, its errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from polyfield.datasets.load import load_scene
from polyfield.datasets.pictures import to_bytes
from polyfield.fields import model_file
from polyfield.fields.model import Model
from polyfield.renderers.picture import draw_picture
from polyfield.renderers.registry import renderer_for
from polyfield.training import fit_image
from polyfield.training.evaluation import draw_view
from polyfield.training.report import Report, Section, loss_curves, picture, table
from polyfield.training.run_folder import RunFolder

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Shown", "comparison_page"]

_PART = 0.25  # of the shorter side that a crop shows
_LEAST = 48  # pixels of a crop's side, where there are as many
_SIDE = 256  # pixels on the page
_ERROR_GAIN = 5.0


@dataclass(frozen=True)
class Shown:
    """What was compared.

    Attributes:
        source: Scene or file.
        kind: What was fitted to it; None: posed images.
        out: Folder of the runs.
    """

    source: str
    kind: str | None
    out: Path


def comparison_page(shown: Shown, rows: Sequence[dict[str, Any]]) -> Report:
    """Lay the page out.

    Args:
        shown: What was compared.
        rows: As `polyfield.training.compare.Comparison` has them.
    """
    done = [row for row in rows if "failed" not in row]
    head = _HEAD if not done or "psnr" in done[0] else _SHAPE_HEAD
    sections = [Section("The fields", [table([_cells(row) for row in rows], head)])]
    if done:
        logs = {r["field"]: RunFolder.open(shown.out / r["field"]).read_log() for r in done}
        sections.append(Section("Loss over time", [loss_curves(logs)]))
        if "psnr" in done[0]:  # there are pictures
            sections.append(Section("Side by side", _crops(shown, [row["field"] for row in done])))
    what = "posed images" if shown.kind is None else f"one {shown.kind}"
    about = f"{len(rows)} fields, trained alike on {what}: {Path(shown.source).name}."
    return Report("Polyfield: a comparison", about, sections)


_HEAD = (
    *("field", "PSNR dB", "SSIM", "trained", "stored values", "MB", "steps", "seconds"),
    "million samples/s",
)
_SHAPE_HEAD = ("field", "IoU", "IoU near", "normals off by", *_HEAD[3:])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if "failed" in row:
        return (row["field"], row["failed"])
    similar, speed = row.get("ssim"), row["samples_per_second"]
    quality: tuple[str, ...]
    if "psnr" in row:
        quality = f"{row['psnr']:.2f}", "-" if similar is None else f"{similar:.4f}"
    else:
        degrees = f"{row['normal_error']:.2f} degrees"
        quality = f"{row['iou']:.5f}", f"{row['iou_near']:.4f}", degrees
    return (
        row["field"],
        *quality,
        f"{row['parameters']:,}",
        f"{row['stored_values']:,}",
        f"{row['bytes'] / 1e6:.2f}",
        f"{row['steps']:,}",
        f"{row['train_seconds']:.1f}",
        "-" if speed is None else f"{speed / 1e6:.2f}",
    )


def _crops(shown: Shown, names: Sequence[str]) -> list[str]:
    """Show where the fields are worst on the whole, each beside the truth, and their errors."""
    models = {name: model_file.load(shown.out / name) for name in names}
    downscale = _downscale(next(iter(models.values())))
    truth, seen = (
        _views(shown.source, downscale, models)
        if shown.kind is None
        else _pictures(shown.source, models)
    )
    errors = {name: (image - truth).abs() for name, image in seen.items()}
    window = _worst(torch.stack([e.mean(-1) for e in errors.values()]).mean(0))
    parts = [picture(_enlarged(truth[window]), "the truth")]
    parts += [picture(_enlarged(image[window]), name) for name, image in seen.items()]
    parts.append("<br>")
    for name, error in errors.items():
        caption = f"{name}: error, {_ERROR_GAIN:g} times"
        parts.append(picture(_enlarged(error[window] * _ERROR_GAIN), caption))
    return parts


def _downscale(model: Model) -> int:
    protocol = model.info.get("protocol")
    return int(protocol.get("downscale", 1)) if isinstance(protocol, dict) else 1


def _views(
    source: str, downscale: int, models: dict[str, Model]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw the middle one of the test views, or of the training views where none is held out."""
    scene = load_scene(None if source == "builtin" else source, downscale=downscale)
    views = scene.split["test"] or scene.split["train"]
    view = views[len(views) // 2]
    rgba = scene.images.image(view)
    height, width = rgba.shape[:2]
    seen, background = {}, torch.ones(3)
    for name, model in models.items():
        background = torch.tensor(model.background)
        drawn = draw_view(renderer_for(model), scene.cameras, view, model.background)
        seen[name] = drawn.color.reshape(height, width, 3)
    return rgba[..., :3] + (1.0 - rgba[..., 3:]) * background, seen


def _pictures(source: str, models: dict[str, Model]) -> tuple[Tensor, dict[str, Tensor]]:
    image = fit_image.load(source)
    truth = image.values(slice(None)).view(image.height, image.width, -1)
    seen = {n: draw_picture(m, image.width, image.height) for n, m in models.items()}
    return fit_image.on_white(truth, image), {
        name: fit_image.on_white(drawn, image) for name, drawn in seen.items()
    }


def _worst(error: Tensor) -> tuple[slice, slice]:
    """Find the square in which a map of errors [H, W] sums to the most."""
    height, width = error.shape
    side = min(max(int(_PART * min(height, width)), _LEAST), height, width)
    sums = torch.nn.functional.avg_pool2d(error[None, None], side, stride=max(side // 8, 1))[0, 0]
    y, x = divmod(int(sums.argmax()), sums.shape[1])
    step = max(side // 8, 1)
    return slice(y * step, y * step + side), slice(x * step, x * step + side)


def _enlarged(image: Tensor) -> "Image":
    from PIL import Image

    side = image.shape[0]
    factor = max(1, round(_SIDE / side))
    small = Image.fromarray(to_bytes(image.clamp(0, 1)))
    return small.resize((side * factor, side * factor), Image.Resampling.NEAREST)
