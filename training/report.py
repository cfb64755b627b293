"""One HTML page about a run: pictures beside the truth, a table of quality, the loss over time.

The page is self-contained: pictures are in it, there are no scripts, and nothing is fetched.
"""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyfield.errors import RunError
from polyfield.files import replacing

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Report", "Section", "loss_curves", "picture", "table"]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
       color: #1a1a1a; background: #fff; }
h1 { font-size: 1.8rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; } td, th { padding: .2rem 1rem .2rem 0; text-align: left; }
td + td { font-variant-numeric: tabular-nums; }
figure { display: inline-block; margin: 0 .8rem .8rem 0; } img, video { max-width: 100%; }
figcaption { color: #555; font-size: .9rem; } pre { background: #f4f4f4; padding: .8rem; overflow-x: auto; }
"""

_COLORS = ("#2859c8", "#c8472b", "#2f8f4e", "#8a4fbf", "#b8860b", "#177e89", "#c2185b", "#555555")


@dataclass
class Section:
    """A heading and what stands under it, ready HTML."""

    title: str
    parts: list[str] = field(default_factory=list)


@dataclass
class Report:
    """A page.

    Attributes:
        title: Its heading.
        about: A paragraph under it.
        sections: In order.

    Example:
        >>> page = Report("A run", "What came of it.", [Section("Quality", [table([("psnr", 30.0)])])])
        >>> "<td>psnr</td><td>30.0</td>" in page.html()
        True
    """

    title: str
    about: str
    sections: Sequence[Section]

    def html(self) -> str:
        """The whole page."""
        body = "\n".join(
            f"<h2>{html.escape(section.title)}</h2>\n" + "\n".join(section.parts)
            for section in self.sections
        )
        title = html.escape(self.title)
        return (
            f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n'
            f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>\n'
            f"<h1>{title}</h1>\n<p>{html.escape(self.about)}</p>\n{body}\n</html>\n"
        )

    def write(self, path: Path) -> None:
        """Write the page, whole or not at all.

        Raises:
            RunError: The disk is full.
        """
        try:
            with replacing(path) as beside:
                beside.write_text(self.html(), encoding="utf-8")
        except OSError as error:
            raise RunError(f"{path} could not be written: {error.strerror}.") from None


def table(rows: Sequence[Sequence[Any]], head: Sequence[str] = ()) -> str:
    """Lay rows out as an HTML table."""
    lines = ["<table>"]
    if head:
        lines.append("<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>")
    for row in rows:
        lines.append("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>")
    return "\n".join([*lines, "</table>"])


def picture(image: "Image | Path", caption: str) -> str:
    """Put a picture, in memory or in a file (PNG or MP4), into the page."""
    if isinstance(image, Path):
        data, kind = image.read_bytes(), image.suffix.lower()
    else:
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        data, kind = buffer.getvalue(), ".png"
    code = base64.b64encode(data).decode("ascii")
    text = html.escape(caption)
    if kind == ".mp4":
        shown = f'<video controls loop autoplay muted src="data:video/mp4;base64,{code}"></video>'
    else:
        shown = f'<img alt="{text}" src="data:image/png;base64,{code}">'
    return f"<figure>{shown}<figcaption>{text}</figcaption></figure>"


def loss_curves(
    logs: Mapping[str, Sequence[Mapping[str, Any]]], width: int = 640, height: int = 240
) -> str:
    """Draw the loss over the seconds of runs, on a logarithmic scale, as SVG.

    Args:
        logs: The entries of each run's log by the run's name; entries without a loss above 0 are left out.
        width: Of the drawing in pixels.
        height: Of the drawing in pixels.
    """
    lines = {name: _points(entries) for name, entries in logs.items()}
    lines = {name: points for name, points in lines.items() if len(points) >= 2}
    if not lines:
        return "<p>The log is too short for a curve.</p>"
    every = [point for points in lines.values() for point in points]
    end = max(x for x, _ in every) or 1.0
    low = math.floor(min(y for _, y in every))
    high = max(math.ceil(max(y for _, y in every)), low + 1)
    left, bottom, top = 48, height - 28, 10

    def place(x: float, y: float) -> tuple[str, str]:
        across = left + (width - left - 10) * x / end
        return f"{across:.1f}", f"{bottom - (bottom - top) * (y - low) / (high - low):.1f}"

    grid = []
    for decade in range(low, high + 1):
        x, y = place(0, decade)
        grid.append(f'<line x1="{x}" y1="{y}" x2="{width - 10}" y2="{y}" stroke="#ddd"/>')
        grid.append(f'<text x="4" y="{float(y) + 4:.0f}" font-size="12">1e{decade}</text>')
    drawn = []
    for number, (name, points) in enumerate(lines.items()):
        color = _COLORS[number % len(_COLORS)]
        path = " ".join(",".join(place(x, y)) for x, y in points)
        drawn.append(
            f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{path}"/>'
            f'<text x="{width - 14}" y="{24 + 16 * number}" font-size="12" text-anchor="end" '
            f'fill="{color}">{html.escape(name)}</text>'
        )
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="loss over time">'
        + "".join(grid + drawn)
        + f'<text x="{left}" y="{height - 8}" font-size="12">0 s</text>'
        + f'<text x="{width - 10}" y="{height - 8}" font-size="12" text-anchor="end">{end:.0f} s</text>'
        + "</svg>"
    )


def _points(entries: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Seconds and decades of the loss."""
    points = [(e["seconds"], math.log10(e["loss"])) for e in entries if e.get("loss", 0) > 0]
    return _averaged(points, 200) if points else []


def _averaged(points: Sequence[tuple[float, float]], count: int) -> list[tuple[float, float]]:
    """At most `count` points, each the mean of its share."""
    size = math.ceil(len(points) / count)
    shares = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in s) / len(s), sum(y for _, y in s) / len(s)) for s in shares]
