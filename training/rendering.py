"""Rendering a run or a mesh along a camera path, to a video or to pictures."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from polyfield.datasets.cameras import Cameras
from polyfield.datasets.pictures import depth_picture, save_png, save_video
from polyfield.datasets.wishes import whole_number
from polyfield.errors import InputError
from polyfield.fields import model_file
from polyfield.fields.model import Model
from polyfield.renderers.camera_path import CameraPath, FrameSize, camera_path
from polyfield.renderers.picture import draw_picture
from polyfield.training.drawable import Drawable, drawable_mesh, drawable_model, is_mesh
from polyfield.training.evaluation import draw_view
from polyfield.training.progress import Progress
from polyfield.training.running import use_threads

__all__ = ["render"]


def render(
    run: Path | str,
    *,
    path: str | None = None,
    out: Path | str,
    width: int | None = None,
    height: int | None = None,
    fps: int | None = None,
    frames: int | None = None,
    depth: bool = False,
    cameras: Path | str | None = None,
    up: str | None = None,
    threads: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Draw a run or a mesh along a path, or the picture that a field of an image or of the sphere holds.

    Args:
        run: Run folder or field file, or a mesh file: .ply, .obj, .glb, .off or .stl.
        path: "orbit", "spiral", "test" (the held-out views) or a camera file. None for a picture.
        out: A .mp4 file, or a folder for PNG pictures; of a picture a .png file.
        width, height: Of the frames; None: as the photographs are, of a picture so that its shape is kept.
        fps, frames: Of the video; None: 30 and 120, or as the camera file says.
        depth: Draw distances instead of colours.
        cameras: Of a mesh: run whose cameras, background and world to take, so that pictures of both can be compared.
        up: "x", "y" or "z": which way is up for a shape, or for a mesh without cameras; None: z, of .glb files y.
        threads: Number of threads.
        on_progress: Told after every frame.

    Returns:
        Where the result lies.

    Raises:
        InputError: There is no run, the path is not known, `out` is of no known kind, or a number is out of its range.
    """
    use_threads(threads)
    for name, value, low, high in (
        ("--width", width, 8, 16384),
        ("--height", height, 8, 16384),
        ("--fps", fps, 1, 240),
        ("--frames", frames, 1, 100_000),
    ):
        if value is not None:
            whole_number(value, name, low, high)
    out = Path(out)
    drawn = _opened(Path(run), cameras, up)
    if isinstance(drawn, Model):
        return _draw_still(drawn, path, out, (width, height))
    video = out.suffix.lower() == ".mp4"
    if out.suffix and not video:
        raise InputError(f"--out must end in .mp4, or name a folder for pictures, but is {out}.")
    if path is None:
        raise InputError("Along which path? Give --path orbit, spiral, test or FILE.json.")
    chosen = camera_path(
        path,
        drawn.cameras,
        test=drawn.test,
        size=FrameSize(width, height),
        fps=fps,
        frames=frames,
    )

    def pictures() -> Iterator[Tensor]:
        count = len(chosen.cameras)
        for frame in range(count):
            yield _frame(drawn, chosen.cameras.select([frame]), depth)
            on_progress(
                Progress(step=frame + 1, steps=count, message=f"frame {frame + 1} of {count}")
            )

    return _write(out, video, chosen, pictures())


def _opened(run: Path, cameras: Path | str | None, up: str | None) -> Drawable | Model:
    """Give what to draw along a path, or a model that is itself a picture."""
    if is_mesh(run):
        return drawable_mesh(run, cameras, up)
    if cameras is not None:
        raise InputError(f"--cameras is for mesh files, but {run} is none; a run has its own.")
    model = model_file.load(run)
    if "width" in model.config["domain"]:
        if up is not None:
            raise InputError("--up is for shapes and mesh files, but this is a picture.")
        return model
    return drawable_model(model, up)


def _frame(drawn: Drawable, camera: Cameras, depth: bool) -> Tensor:
    """Draw what one camera sees."""
    wide, high = (int(v) for v in camera.size[0])
    if depth:
        seen = draw_view(drawn.renderer, camera, 0, drawn.background)
        flat = torch.where(seen.opacity > 0.5, seen.depth, torch.zeros(()))
        return torch.as_tensor(depth_picture(flat.reshape(high, wide)))
    finer = camera if drawn.rays == 1 else camera.fitted(camera.size * drawn.rays)
    color = draw_view(drawn.renderer, finer, 0, drawn.background).color
    return color.reshape(high, drawn.rays, wide, drawn.rays, 3).mean((1, 3))


def _draw_still(
    model: Model, path: str | None, out: Path, wanted: tuple[int | None, int | None]
) -> Path:
    if path is not None:
        raise InputError(f"{out.name}: a picture has no camera path; leave --path away.")
    if out.suffix.lower() != ".png":
        raise InputError(f"A picture goes to a .png file, not to {out}.")
    own_width, own_height = model.config["domain"]["width"], model.config["domain"]["height"]
    width, height = wanted
    if width is None:
        width = own_width if height is None else round(own_width * height / own_height)
    if height is None:
        height = round(own_height * width / own_width)
    picture = draw_picture(model, max(width, 1), max(height, 1))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_png(out, picture)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}.") from None
    return out


def _write(out: Path, video: bool, chosen: CameraPath, pictures: Iterator[Tensor]) -> Path:
    try:
        if video:
            out.parent.mkdir(parents=True, exist_ok=True)
            save_video(out, pictures, fps=chosen.fps)
        else:
            out.mkdir(parents=True, exist_ok=True)
            for frame, picture in enumerate(pictures):
                save_png(out / f"{frame:05d}.png", picture)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}.") from None
    return out
