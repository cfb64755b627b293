"""`polyfield train`: fit a radiance field to posed images."""

import argparse
from functools import partial
from typing import TYPE_CHECKING

from polyfield.cli.arguments import Parser, choice, whole
from polyfield.cli.running import add_run_arguments, common, refuse_fixed, run_watched
from polyfield.errors import InputError

if TYPE_CHECKING:
    from polyfield.training.running import TrainResult

__all__ = ["configure", "run"]


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.set_defaults(command="train")
    parser.add_argument(
        "scene",
        nargs="?",
        metavar="SCENE",
        help="folder of posed images, or 'builtin'; not needed with --resume",
    )
    parser.add_argument(
        "--downscale", type=whole(1, 64), metavar="K", help="divide the size of the images by K"
    )
    parser.add_argument(
        "--background",
        type=choice("random", "white", "black"),
        metavar="COLOR",
        help="behind transparent images: random (default), white or black",
    )
    parser.add_argument("--format", metavar="F", help="read the scene as this format")
    add_run_arguments(parser)


_FIXED = ("field", "downscale", "background", "format", "seed", "precision", "set")


def run(args: argparse.Namespace) -> int:
    """Train, and say where the run lies and how good it is."""
    if args.scene is None and not args.resume:
        raise InputError("polyfield train: still needed: SCENE, a folder of posed images.")
    refuse_fixed(args, _FIXED)
    from polyfield.training.api import train

    start = partial(
        train,
        args.scene,
        downscale=args.downscale or 1,
        background=args.background or "random",
        format=args.format,
        **common(args),
    )
    return run_watched(args, start, _summary)


def _summary(result: "TrainResult") -> str:
    run, metrics = result.run, result.metrics
    lines = [f"{run}: {result.step} steps"]
    if metrics:
        lines[0] += f" in {metrics['train_seconds']:.1f} s"
        quality = f"PSNR {metrics['psnr']:.2f} dB, SSIM {metrics['ssim']:.4f}"
        lines.append(f"{metrics['views']} {metrics['split']} views: {quality}")
    lines.append(f"Next: polyfield render {run} --path orbit --out {run}/renders/orbit.mp4")
    return "\n".join(lines)
