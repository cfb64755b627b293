"""A scene at a glance: cameras, region and points from three sides, some photographs, and oddities.

The three drawings look along the world's axes, without perspective and at one scale.
"""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps

from polyfield.datasets.pictures import to_bytes
from polyfield.datasets.scene import Scene

__all__ = ["draw_scene", "oddities"]

_SIDE = 460  # pixels of one drawing
_GAP = 24
_FINE = 2  # everything is drawn twice as large and then reduced: smooth lines
_MOST_POINTS = 6000
_THUMBNAILS = 8

_PAPER, _SHEET, _INK, _FAINT = (250, 249, 246), (255, 255, 255), (44, 46, 52), (214, 214, 210)
_BOX, _TRAIN, _TEST, _VAL = (196, 120, 30), (36, 92, 160), (200, 48, 60), (40, 140, 90)
_POINT, _NOTE, _WARNING = (150, 152, 156), (120, 122, 126), (170, 40, 40)
_AXES = ((204, 62, 62), (60, 150, 70), (54, 98, 200))  # x, y, z

Pen = ImageDraw.ImageDraw
Color = tuple[int, int, int]


def draw_scene(scene: Scene) -> UInt8[np.ndarray, "H W 3"]:
    """Draw a scene: top left its floor plan (x, y), then (x, z) and (y, z), and what is known of it.

    Training cameras are blue, test cameras red, validation cameras green; each is a frustum whose
    base shows which way it looks. The region of interest is orange.
    """
    width, height = 2 * _SIDE + 3 * _GAP, 2 * _SIDE + 3 * _GAP
    sheet = Image.new("RGB", (width * _FINE, height * _FINE), _PAPER)
    pen = ImageDraw.Draw(sheet)
    middle, scale = _frame(scene)
    for place, axes in enumerate(((0, 1), (0, 2), (1, 2))):
        left = _GAP + (place % 2) * (_SIDE + _GAP)
        top = _GAP + (place // 2) * (_SIDE + _GAP)
        _draw_side(pen, scene, _View(left, top, axes, middle, scale))
    _write_about(sheet, scene, (_SIDE + 2 * _GAP) * _FINE, (_SIDE + 2 * _GAP) * _FINE)
    return np.asarray(sheet.resize((width, height), Image.Resampling.LANCZOS))


def oddities(scene: Scene) -> tuple[str, ...]:
    """Say in sentences what looks wrong with the cameras of a scene; empty where nothing does."""
    return tuple(_odd(scene))


def _odd(scene: Scene) -> Iterator[str]:
    cameras, count = scene.cameras, len(scene.cameras)
    places, forward = cameras.positions, cameras.forward
    low, high = scene.box
    outside = ((places < low) | (places > high)).any(dim=1)
    away = outside & (((low + high) / 2 - places) * forward).sum(dim=1).le(0)
    if bool(away.any()):
        many = int(away.sum())
        who = "All cameras look" if many == count else f"{many} of {count} cameras look"
        yield (
            f"{who} away from the region of interest"
            + ("; are the poses of another convention?" if 2 * many > count else ".")
        )
    axes = cameras.world_from_camera[:, :, :2]
    if count > 2 and float(axes.mean(dim=0).norm(dim=0).max()) < 0.3:
        yield "The cameras agree neither on what is up nor on what is right; is a pose inverted?"
    spread = float((places - places.mean(dim=0)).norm(dim=1).max())
    size = float((high - low).norm())
    if count > 1 and spread < 1e-3 * size:
        yield "All cameras stand at one place, so that distances cannot be found."
    else:
        pose = torch.cat([places / max(size, 1e-12), forward], dim=1)
        apart = torch.cdist(pose, pose) + 2 * torch.eye(count, dtype=pose.dtype)
        twins = int((apart.amin(dim=1) < 1e-6).sum()) if count > 1 else 0
        if twins:
            yield f"{twins} of {count} cameras share place and direction with another one."
    if scene.points is not None and len(scene.points) and not scene.unbounded:
        points = scene.points.double()
        share = float(((points < low) | (points > high)).any(dim=1).double().mean())
        if share > 0.5:
            yield f"{share:.0%} of the known points lie outside the region of interest."


@dataclass(frozen=True)
class _View:
    """A drawing: where it is on the sheet, which world axes go right and up, and its scale."""

    left: int
    top: int
    axes: tuple[int, int]
    middle: Float[np.ndarray, "3"]
    scale: float

    def at(self, world: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 2"]:
        """Places on the (enlarged) sheet."""
        right, up = self.axes
        moved = (world - self.middle) * self.scale
        x = self.left + _SIDE / 2 + moved[..., right]
        y = self.top + _SIDE / 2 - moved[..., up]
        places: np.ndarray = np.stack([x, y], axis=-1) * _FINE
        return places

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """Of the drawing, on the (enlarged) sheet."""
        left, top, side = self.left * _FINE, self.top * _FINE, _SIDE * _FINE
        return left, top, left + side, top + side


def _frame(scene: Scene) -> tuple[Float[np.ndarray, "3"], float]:
    """Middle of what is shown, and pixels for a world unit; cameras and region fit in."""
    shown = np.concatenate([scene.cameras.positions.numpy(), scene.box.numpy()])
    low, high = shown.min(axis=0), shown.max(axis=0)
    return (low + high) / 2, 0.78 * _SIDE / max(float((high - low).max()), 1e-9)


def _draw_side(pen: Pen, scene: Scene, view: _View) -> None:
    pen.rectangle(view.corners, fill=_SHEET, outline=_FAINT, width=_FINE)
    step = _draw_grid(pen, view)
    _draw_points(pen, scene, view)
    low, high = view.at(scene.box.numpy())
    pen.rectangle((low[0], high[1], high[0], low[1]), outline=_BOX, width=2 * _FINE)
    # Held-out cameras last, where they are not covered by the many others.
    for split, color in (("train", _TRAIN), ("val", _VAL), ("test", _TEST)):
        for i in scene.split.get(split, ()):
            _draw_camera(pen, scene, i, view, color)
    _draw_axes(pen, view)
    _, top, right, _ = view.corners
    place = (right - 8 * _FINE, top + 6 * _FINE)
    note, font = f"grid: {step:g}", _font(12 * _FINE)
    pen.rectangle(pen.textbbox(place, note, font, anchor="ra"), fill=_SHEET)
    pen.text(place, note, _NOTE, font, anchor="ra")


def _draw_grid(pen: Pen, view: _View) -> float:
    """Draw faint lines at round distances; return how far apart they are."""
    rough = _SIDE / view.scale / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * max(n for n in (1, 2, 5) if n * power <= rough)
    left, top, right, bottom = view.corners
    for axis, sideways in zip(view.axes, (True, False), strict=True):
        half = _SIDE / view.scale / 2
        first, last = view.middle[axis] - half, view.middle[axis] + half
        for n in range(int(np.ceil(first / step)), int(np.floor(last / step)) + 1):
            point = view.middle.copy()
            point[axis] = n * step
            x, y = view.at(point)
            tint = (226, 226, 222) if n == 0 else (241, 241, 238)
            line = (x, top + 2, x, bottom - 2) if sideways else (left + 2, y, right - 2, y)
            pen.line(line, fill=tint, width=_FINE)
    return float(step)


def _draw_points(pen: Pen, scene: Scene, view: _View) -> None:
    if scene.points is None or len(scene.points) == 0:
        return
    step = max(1, len(scene.points) // _MOST_POINTS)
    places = view.at(scene.points[::step].double().numpy())
    colors = np.full((len(places), 3), _POINT)
    if scene.point_colors is not None:
        colors = scene.point_colors[::step].numpy()
    left, top, right, bottom = view.corners
    inside = (places > (left + 4, top + 4)).all(axis=1) & (places < (right - 4, bottom - 4)).all(
        axis=1
    )
    for (x, y), (r, g, b) in zip(places[inside], colors[inside], strict=True):
        pen.rectangle((x - 1, y - 1, x + 1, y + 1), fill=(int(r), int(g), int(b)))


def _draw_camera(pen: Pen, scene: Scene, i: int, view: _View, color: Color) -> None:
    width, height = scene.cameras.size[i].tolist()
    corners = [(0, 0), (width, 0), (width, height), (0, height)]
    pixels = torch.tensor([*corners, (width / 2, height / 2)], dtype=torch.float32)
    origins, directions = scene.cameras.rays(torch.full((5,), i), pixels)
    length = 0.055 * _SIDE / view.scale
    # All corners at one distance along the axis, so that the base is flat; wide lenses are capped.
    slant = (directions @ scene.cameras.forward[i].float()).clamp_min(0.5)
    tips = origins.double() + length * (directions / slant[:, None]).double()
    eye = tuple(view.at(origins[0].double().numpy()))
    base = [tuple(p) for p in view.at(tips[:4].numpy())]
    for corner in base:
        pen.line((*eye, *corner), fill=color, width=_FINE)
    pen.line([*base, base[0]], fill=color, width=_FINE)
    x, y = eye
    pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=color)


def _draw_axes(pen: Pen, view: _View) -> None:
    left, _, _, bottom = view.corners
    x, y, length = left + 22 * _FINE, bottom - 22 * _FINE, 40 * _FINE
    right, up = view.axes
    for axis, (dx, dy) in ((right, (1, 0)), (up, (0, -1))):
        tip = (x + dx * length, y + dy * length)
        pen.line((x, y, *tip), fill=_AXES[axis], width=3 * _FINE)
        label = (x + dx * (length + 12 * _FINE), y + dy * (length + 12 * _FINE))
        pen.text(label, "xyz"[axis], _AXES[axis], _font(16 * _FINE), anchor="mm")


def _write_about(sheet: Image.Image, scene: Scene, left: int, top: int) -> None:
    """Name, figures, photographs, legend and warnings, in the last quarter of the sheet."""
    pen, one = ImageDraw.Draw(sheet), _FINE
    pen.text((left, top), scene.name, _INK, _font(26 * one))
    row = top + 42 * one
    for line in _figures(scene):
        pen.text((left, row), line, _INK, _font(14 * one))
        row += 20 * one
    row += 4 * one
    splits = (("train", _TRAIN), ("val", _VAL), ("test", _TEST))
    entries = [(f"{len(scene.split[s])} {s}", c) for s, c in splits if scene.split.get(s)]
    place = left
    for text, color in [*entries, ("region of interest", _BOX)]:
        pen.rectangle((place, row + 3 * one, place + 11 * one, row + 14 * one), fill=color)
        pen.text((place + 17 * one, row), text, _INK, _font(14 * one))
        place += 36 * one + int(pen.textlength(text, _font(14 * one)))
    row = _paste_photographs(sheet, scene, left, row + 30 * one)
    for sentence in (*scene.warnings, *oddities(scene)):
        for line in textwrap.wrap("! " + sentence, 66, subsequent_indent="  "):
            if row > top + (_SIDE - 18) * one:
                return
            pen.text((left, row), line, _WARNING, _font(13 * one))
            row += 17 * one
        row += 4 * one


def _figures(scene: Scene) -> Iterator[str]:
    sizes = scene.images.sizes.unique(dim=0).tolist()
    shapes = ", ".join(f"{w}x{h}" for w, h in sizes[:3]) + (", ..." if len(sizes) > 3 else "")
    alpha = ", with alpha" if scene.images.has_alpha else ""
    yield f"{scene.format}: {len(scene.cameras)} images of {shapes}{alpha}"
    lenses = sorted({lens.model for lens in scene.cameras.lenses})
    yield f"lens: {', '.join(lenses)}"
    low, high = (", ".join(f"{v:.3g}" for v in corner) for corner in scene.box.tolist())
    yield f"region: ({low}) to ({high})" + (", and beyond" if scene.unbounded else "")
    yield f"from the cameras: {scene.near:.3g} to {scene.far:.3g}"
    if scene.points is not None:
        yield f"{len(scene.points):,} known points"


def _paste_photographs(sheet: Image.Image, scene: Scene, left: int, top: int) -> int:
    """Paste some photographs in two rows, on white; return where the next line goes."""
    count, gap = min(_THUMBNAILS, len(scene.images)), 8 * _FINE
    width = (_SIDE * _FINE - 3 * gap) // 4
    height = width * 3 // 4
    for place in range(count):
        rgba = scene.images.image(place * len(scene.images) // count)
        photo = Image.fromarray(to_bytes(rgba[..., :3] + 1 - rgba[..., 3:]))
        photo = ImageOps.contain(photo, (width, height), Image.Resampling.BICUBIC)
        x = left + (place % 4) * (width + gap) + (width - photo.width) // 2
        y = top + (place // 4) * (height + gap) + (height - photo.height) // 2
        sheet.paste(photo, (x, y))
    return top + (1 + (count - 1) // 4) * (height + gap) + gap // 2


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
