"""`polyfield mesh`: the surface of a run, as a file that other programs open."""

import argparse
import math
from pathlib import Path

from polyfield.cli.arguments import Parser, add_json, add_threads, choice, print_json, whole
from polyfield.cli.progress import ProgressDisplay

__all__ = ["configure", "run"]


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder or field.safetensors")
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="FILE",
        help=".ply, .obj or .glb, with colours of vertices; a report is written beside it",
    )
    parser.add_argument(
        "--method",
        type=choice("marching-cubes", "dualmesh-udf"),
        metavar="M",
        help="marching-cubes, or dualmesh-udf for distances (default: by the kind of field)",
    )
    parser.add_argument(
        "--resolution",
        type=whole(2, 4096),
        default=256,
        metavar="N",
        help="cells along the longest side (256)",
    )
    parser.add_argument(
        "--level",
        type=_number,
        metavar="L",
        help="of the surface (default: by the kind of field; for radiance, from what its cameras see)",
    )
    parser.add_argument(
        "--crop",
        type=_box,
        metavar="BOX",
        help="x,y,z,x,y,z: low and high corner of what to mesh, as the data has them",
    )
    parser.add_argument(
        "--min-component",
        type=_share,
        default=0.0,
        metavar="F",
        help="drop pieces with less than this share of the largest one's faces, as 0.01",
    )
    add_threads(parser)
    add_json(parser)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"a finite number is needed, not {text!r}")
    return value


def _share(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"a number from 0 to 1 is needed, not {text!r}")
    return value


def _box(text: str) -> list[float]:
    numbers = [_number(word) for word in text.split(",")]
    if len(numbers) != 6:
        raise argparse.ArgumentTypeError(f"six numbers are needed, as x,y,z,x,y,z, not {text!r}")
    return numbers


def run(args: argparse.Namespace) -> int:
    """Extract, and say what came out."""
    from polyfield.training.extraction import extract_mesh

    with ProgressDisplay() as show:
        report = extract_mesh(
            args.run,
            out=args.out,
            method=args.method,
            resolution=args.resolution,
            level=args.level,
            crop=args.crop,
            least_piece=args.min_component,
            threads=args.threads,
            on_progress=show,
        )
    if args.json:
        print_json(report)
        return 0
    pieces = "1 piece" if report["components"] == 1 else f"{report['components']:,} pieces"
    border = (
        "watertight"
        if report["watertight"]
        else f"{report['boundary_edges']:,} boundary edges, {report['nonmanifold_edges']:,} non-manifold"
    )
    level = "" if report["level"] is None else f"level {report['level']:.4g}, "
    print(
        f"{report['mesh']}: {report['vertices']:,} vertices, {report['faces']:,} faces, {pieces}, {border}; "
        f"{level}{report['seconds']:.1f} s"
    )
    return 0
