"""The page of a comparison: a table, curves over time, the same crop of every field beside the truth, its errors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from polyfield.datasets.load import load_scene
from polyfield.datasets.pictures import to_bytes
from polyfield.fields import model_file
from polyfield.fields.model import Model
from polyfield.renderers.picture import draw_picture
from polyfield.renderers.registry import renderer_for
from polyfield.training import fit_image
from polyfield.training.evaluation import Window, draw_view
from polyfield.training.report import Report, Section, loss_curves, picture, table
from polyfield.training.run_folder import RunFolder

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Shown", "comparison_page"]

_PART = 0.25  # of the shorter side that a crop shows
_LEAST, _MOST = 48, 512  # pixels of a crop's side, where there are as many
_SIDE = 256  # pixels on the page that a smaller crop is enlarged to
_BAND = 1 << 20  # pixels drawn at once in the search for what is shown
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
    shape = shown.kind in _SHAPES
    cells = [_cells(row, shape) for row in rows]
    sections = [Section("The fields", [table(cells, _SHAPE_HEAD if shape else _HEAD)])]
    if done:
        logs = {r["field"]: RunFolder.open(shown.out / r["field"]).read_log() for r in done}
        sections.append(Section("Loss over time", [loss_curves(logs)]))
        if not shape:
            sections.append(Section("Side by side", _crops(shown, [row["field"] for row in done])))
    what = "posed images" if shown.kind is None else f"one {shown.kind}"
    about = f"{len(rows)} fields, trained alike on {what}: {Path(shown.source).name}."
    return Report("Polyfield: a comparison", about, sections)


_HEAD = (
    *("field", "PSNR dB", "SSIM", "trained", "stored values", "MB", "steps", "seconds"),
    "million samples/s",
)
_SHAPE_HEAD = (
    *(
        "field",
        "IoU",
        "IoU near",
        "normals off by, degrees",
        "error near",
        "accuracy",
        "completeness",
    ),
    *_HEAD[3:],
)
_SHAPES = ("sdf", "udf", "occupancy")  # kinds of which there are no pictures


def _cells(row: dict[str, Any], shape: bool) -> tuple[str, ...]:
    if "failed" in row:
        return (row["field"], row["failed"])
    quality = (
        (
            *(_told(row, "iou", ".5f"), _told(row, "iou_near", ".4f")),
            _told(row, "normal_error", ".2f"),
            *(_told(row, key, ".2e") for key in ("error_near", "accuracy", "completeness")),
        )
        if shape
        else (_told(row, "psnr", ".2f"), _told(row, "ssim", ".4f"))
    )
    return (
        row["field"],
        *quality,
        _told(row, "parameters", ","),
        _told(row, "stored_values", ","),
        _told(row, "bytes", ".2f", 1e6),
        _told(row, "steps", ","),
        _told(row, "train_seconds", ".1f"),
        _told(row, "samples_per_second", ".2f", 1e6),
    )


def _told(row: dict[str, Any], key: str, form: str, unit: float | None = None) -> str:
    """Write a number of a row, in a unit where one is given; what was not measured is a dash."""
    value = row.get(key)
    if value is None:
        return "-"
    return format(value if unit is None else value / unit, form)


_Draw = Callable[[Window], Float[Tensor, "H W 3"]]


@dataclass(frozen=True)
class _Sight:
    """A picture, of which any window can be drawn, so that the whole of it is never in memory.

    Attributes:
        height, width: In pixels.
        truth: Draws what it should look like.
        seen: Draw what the fields make of it.
        note: What is to be said about it, HTML.
    """

    height: int
    width: int
    truth: _Draw
    seen: dict[str, _Draw]
    note: str = ""


def _crops(shown: Shown, names: Sequence[str]) -> list[str]:
    """Show where the fields are worst on the whole, each beside the truth, and their errors."""
    models = {name: model_file.load(shown.out / name) for name in names}
    sight = _view(shown.source, models) if shown.kind is None else _picture_of(shown.source, models)
    window = _worst(sight)
    truth = sight.truth(window)
    seen = {name: draw(window) for name, draw in sight.seen.items()}
    parts = [sight.note, picture(_enlarged(truth), "the truth")]
    parts += [picture(_enlarged(image), name) for name, image in seen.items()]
    parts.append("<br>")
    for name, image in seen.items():
        caption = f"{name}: error, {_ERROR_GAIN:g} times"
        parts.append(picture(_enlarged((image - truth).abs() * _ERROR_GAIN), caption))
    return parts


def _downscale(model: Model) -> int:
    protocol = model.info.get("protocol")
    return int(protocol.get("downscale", 1)) if isinstance(protocol, dict) else 1


def _view(source: str, models: dict[str, Model]) -> _Sight:
    """Take the middle one of the test views, or of the training views where none is held out."""
    first = next(iter(models.values()))
    scene = load_scene(None if source == "builtin" else source, downscale=_downscale(first))
    held_out = scene.split["test"]
    views = held_out or scene.split["train"]
    view = views[len(views) // 2]
    rgba, background = scene.images.image(view), torch.tensor(first.background)
    height, width = rgba.shape[:2]

    def truth(window: Window) -> Tensor:
        some = rgba[window]
        return some[..., :3] + (1.0 - some[..., 3:]) * background

    def drawn_by(model: Model) -> _Draw:
        renderer = renderer_for(model)

        def draw(window: Window) -> Tensor:
            seen = draw_view(renderer, scene.cameras, view, model.background, window)
            return seen.color.reshape(*rgba[window].shape[:2], 3)

        return draw

    seen = {name: drawn_by(model) for name, model in models.items()}
    note = "" if held_out else "<p>No view is held out: this is one that was trained on.</p>"
    return _Sight(height, width, truth, seen, note)


def _picture_of(source: str, models: dict[str, Model]) -> _Sight:
    """Take an image, as it is or around a sphere."""
    image = fit_image.load(source)

    def truth(window: Window) -> Tensor:
        y, x = (torch.arange(part.start, part.stop) for part in window)
        values = image.values((y[:, None] * image.width + x).view(-1))
        return fit_image.on_white(values.view(len(y), len(x), -1), image)

    def drawn_by(model: Model) -> _Draw:
        return lambda window: fit_image.on_white(
            draw_picture(model, image.width, image.height, *window), image
        )

    seen = {name: drawn_by(model) for name, model in models.items()}
    return _Sight(image.height, image.width, truth, seen)


def _worst(sight: _Sight) -> Window:
    """Find the square in which the errors of all fields sum to the most, a band of rows after the other."""
    least = min(sight.height, sight.width)
    side = min(max(int(_PART * least), _LEAST), _MOST, least)
    step = max(side // 8, 1)  # errors are summed in squares of this side
    down, across = sight.height // step, sight.width // step
    sums, band = torch.zeros(down, across), max(1, _BAND // sight.width)
    for first in range(0, down * step, band):
        rows = slice(first, min(first + band, down * step))
        window = rows, slice(0, across * step)
        truth, errors = sight.truth(window), torch.zeros(rows.stop - first, across)
        for draw in sight.seen.values():
            errors += (draw(window) - truth).abs().mean(2).unflatten(1, (across, step)).sum(2)
        sums.index_add_(0, torch.arange(first, rows.stop) // step, errors)
    count = side // step
    whole = torch.nn.functional.avg_pool2d(sums[None, None], count, stride=1)[0, 0]
    y, x = divmod(int(whole.argmax()), whole.shape[1])
    return slice(y * step, (y + count) * step), slice(x * step, (x + count) * step)


def _enlarged(image: Tensor) -> "Image":
    from PIL import Image

    side = image.shape[0]
    factor = max(1, round(_SIDE / side))
    small = Image.fromarray(to_bytes(image.clamp(0, 1)))
    return small.resize((side * factor, side * factor), Image.Resampling.NEAREST)
