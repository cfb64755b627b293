"""`polyfield render`: pictures or a video of a run or a mesh along a camera path."""

import argparse
from pathlib import Path

from polyfield.cli.arguments import Parser, add_json, add_threads, choice, print_json, whole
from polyfield.cli.progress import ProgressDisplay

__all__ = ["configure", "run"]


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "run",
        type=Path,
        metavar="RUN",
        help="run folder or field.safetensors, or a mesh: .ply, .obj, .glb, .off, .stl",
    )
    parser.add_argument(
        "--path",
        metavar="PATH",
        help="orbit, spiral, test (the test views) or a camera path FILE.json; none for an image",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="OUT",
        help="VIDEO.mp4, or a folder for PNGs; FILE.png for an image",
    )
    size = whole(8, 16384)
    parser.add_argument("--width", type=size, metavar="W", help="default: that of the images")
    parser.add_argument("--height", type=size, metavar="H", help="default: that of the images")
    parser.add_argument("--fps", type=whole(1, 240), metavar="N", help="frames a second (30)")
    parser.add_argument("--frames", type=whole(1, 100_000), metavar="N", help="how many (120)")
    parser.add_argument("--depth", action="store_true", help="the distance instead of the colour")
    parser.add_argument(
        "--cameras", type=Path, metavar="RUN", help="of a mesh: those of a run, and its world"
    )
    parser.add_argument(
        "--up", type=choice("x", "y", "z"), help="of a mesh or a shape (z, of .glb files y)"
    )
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Render, and say where it lies."""
    from polyfield.training.rendering import render

    with ProgressDisplay() as show:
        out = render(
            args.run,
            path=args.path,
            out=args.out,
            width=args.width,
            height=args.height,
            fps=args.fps,
            frames=args.frames,
            depth=args.depth,
            cameras=args.cameras,
            up=args.up,
            threads=args.threads,
            on_progress=show,
        )
    if args.json:
        print_json({"out": out})
    else:
        print(out)
    return 0
