"""Writing pictures: PNG, depth, and video.

A picture is [H, W, 3] or [H, W, 4] (or [H, W, 1] and [H, W] for grey): sRGB, either floats in [0, 1]
(what lies outside is clipped; colour premultiplied by alpha) or uint8 exactly as the file shall
hold it. Every file is written beside and renamed.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from PIL import Image, PngImagePlugin
from torch import Tensor

from polyfield.datasets.decode import FORMATS
from polyfield.errors import DataError, InputError, RunError, ShapeError
from polyfield.files import replacing

__all__ = ["depth_picture", "load_depth", "save_depth", "save_png", "save_video", "to_bytes"]

Picture = Num[Tensor, "H W *C"] | Num[np.ndarray, "H W *C"]

# From far to near, in even steps of lightness: a picture of depth can be read in grey too.
_FAR_TO_NEAR = (
    (18, 16, 44),
    (52, 34, 104),
    (98, 44, 134),
    (150, 54, 132),
    (202, 74, 104),
    (238, 116, 72),
    (250, 170, 72),
    (252, 230, 158),
)


def to_bytes(picture: Picture) -> UInt8[np.ndarray, "H W C"]:
    """Round a picture to 8 bits; colour that was premultiplied is divided by its alpha.

    Raises:
        ShapeError: It is not [H, W] or [H, W, 1, 3 or 4], has no pixels, or is not float or uint8.
    """
    array = picture.detach().cpu().numpy() if isinstance(picture, Tensor) else picture
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or array.size == 0:
        raise ShapeError(
            f"A picture must be [H, W], or [H, W, C] with C 1, 3 or 4, but is {list(array.shape)}."
        )
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ShapeError(f"A picture must hold floats or uint8, but holds {array.dtype}.")
    if array.shape[-1] == 4:
        alpha = np.clip(array[..., 3:], 0, 1)
        rgb = np.divide(array[..., :3], alpha, out=np.zeros_like(array[..., :3]), where=alpha > 0)
        array = np.concatenate([rgb, alpha], axis=-1)
    rounded: np.ndarray = np.rint(np.nan_to_num(np.clip(array, 0, 1)) * 255).astype(np.uint8)
    return rounded


def save_png(path: Path | str, picture: Picture) -> None:
    """Write a PNG file, whole or not at all.

    Raises:
        ShapeError: As `to_bytes`.
        OSError: The file cannot be written.
    """
    pixels = to_bytes(picture)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    with replacing(path) as beside:
        image.save(beside, format="PNG")


def save_depth(path: Path | str, depth: Float[Tensor, "H W"]) -> float:
    """Write depth as a 16-bit grey PNG: pixel * unit is the depth, 0 is where there is none.

    The unit is also written into the file, as the text "depth_unit". The error is half a unit, that
    is the largest depth / 131070.

    Args:
        path: Where to.
        depth: World units; not finite or <= 0 where there is nothing.

    Returns:
        The unit, in world units.
    """
    values = depth.detach().cpu().double().numpy()
    known = np.isfinite(values) & (values > 0)
    unit = float(values[known].max()) / 65535 if known.any() else 1.0
    # A depth that is there must not become 0, which says that there is none.
    steps = np.where(known, np.maximum(np.rint(np.where(known, values, 0) / unit), 1), 0)
    text = PngImagePlugin.PngInfo()
    text.add_text("depth_unit", repr(unit))
    with replacing(path) as beside:
        Image.fromarray(steps.astype(np.uint16)).save(beside, format="PNG", pnginfo=text)
    return unit


def load_depth(path: Path | str) -> Float[Tensor, "H W"]:
    """Read what `save_depth` wrote; 0 where there is none.

    Raises:
        DataError: The file is missing, damaged or not of that kind.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            unit = float(image.info["depth_unit"])
            steps = np.asarray(image).astype(np.float64)
    except Exception as error:  # whatever the decoder stumbles over
        raise DataError(f"{path} is not a depth picture of ours ({error}).") from None
    return torch.from_numpy(steps * unit).float()


def depth_picture(
    depth: Float[Tensor, "H W"], near: float | None = None, far: float | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """Colour depth for the eye: near is pale, far is dark, nothing is white.

    Args:
        depth: Not finite or <= 0 where there is nothing.
        near: Depth of the palest colour; None for the 1st percentile of this picture.
        far: Depth of the darkest; None for the 99th. Give both for the frames of a video.
    """
    values = depth.detach().cpu().double().numpy()
    known = np.isfinite(values) & (values > 0)
    picture = np.full((*values.shape, 3), 255, dtype=np.uint8)
    if known.any():
        low, high = np.percentile(values[known], (1, 99))
        low, high = (low if near is None else near), (high if far is None else far)
        share = np.clip((high - values[known]) / max(high - low, 1e-12), 0, 1)
        places, colours = np.linspace(0, 1, len(_FAR_TO_NEAR)), np.array(_FAR_TO_NEAR)
        channels = [np.interp(share, places, colours[:, c]) for c in range(3)]
        picture[known] = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return picture


def save_video(path: Path | str, frames: Iterable[Picture], fps: int = 30) -> None:
    """Write an .mp4 video (H.264, 4:2:0, colours tagged BT.709), whole or not at all.

    A picture with alpha is put on white. H.264 wants even sides: an odd one gets its last row or
    column twice.

    Args:
        path: Ending in .mp4.
        frames: All of one size; taken one at a time, so that a generator needs little memory.
        fps: Frames a second, >= 1.

    Raises:
        InputError: Another ending, no frames, or fps below 1.
        ShapeError: Frames differ in size or are no pictures.
        RunError: The encoder fails.
        OSError: The file cannot be written.
    """
    import av  # heavy, and only needed here
    import av.error

    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise InputError(f"A video file must end in .mp4, but is called {path.name}.")
    if fps < 1:
        raise InputError(f"--fps must be at least 1, but is {fps}.")
    size: tuple[int, ...] | None = None
    try:
        with (
            replacing(path) as beside,
            av.open(
                str(beside), "w", format="mp4", options={"movflags": "+faststart"}
            ) as container,
        ):
            stream = container.add_stream("libx264", rate=fps, options={"crf": "18"})
            for number, picture in enumerate(frames):
                rgb = _even(_on_white(to_bytes(picture)))
                if size is None:
                    size = rgb.shape
                    stream.height, stream.width = size[:2]
                    stream.pix_fmt = "yuv420p"
                    context = stream.codec_context
                    context.color_range, context.colorspace = 1, 1  # limited range, BT.709
                    context.color_primaries, context.color_trc = 1, 1
                if rgb.shape != size:
                    raise ShapeError(
                        f"Frame {number} of the video is {rgb.shape[1]}x{rgb.shape[0]}, but the "
                        f"first is {size[1]}x{size[0]}."
                    )
                frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
                    format="yuv420p", dst_colorspace="itu709"
                )
                container.mux(stream.encode(frame))
            if size is None:
                raise InputError(f"There are no frames to write to {path.name}.")
            container.mux(stream.encode(None))
    except av.error.FFmpegError as error:
        raise RunError(f"The video {path} could not be encoded: {error}.") from None


def _on_white(pixels: UInt8[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "H W 3"]:
    if pixels.shape[-1] == 4:
        alpha = pixels[..., 3:] / np.float32(255)
        pixels = np.rint(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _even(pixels: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H2 W2 3"]:
    height, width = pixels.shape[:2]
    padded: np.ndarray = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(padded)
