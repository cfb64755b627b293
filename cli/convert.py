"""`polyfield convert`: turn a radiance field into one of another architecture."""

import argparse
from functools import partial
from typing import TYPE_CHECKING

from polyfield.cli.arguments import Parser
from polyfield.cli.running import add_run_arguments, common, refuse_fixed, run_watched
from polyfield.errors import InputError

if TYPE_CHECKING:
    from polyfield.training.running import TrainResult

__all__ = ["configure", "run"]


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.set_defaults(command="convert")
    parser.add_argument(
        "run",
        nargs="?",
        metavar="RUN|FILE",
        help="the teacher: a run folder or a field file; not needed with --resume",
    )
    parser.add_argument(
        "--scene",
        metavar="SCENE",
        help="what the teacher was trained on: look from its cameras, and measure on its test views",
    )
    add_run_arguments(parser, "to")


_FIXED = ("to", "seed", "precision", "set")


def run(args: argparse.Namespace) -> int:
    """Convert, and say where the run lies and how alike both fields look."""
    if not args.resume:
        for given, what in ((args.run, "RUN, the field to convert"), (args.to, "--to PRESET")):
            if given is None:
                raise InputError(f"polyfield convert: still needed: {what}.")
    refuse_fixed(args, _FIXED)
    from polyfield.training.convert import convert

    start = partial(convert, args.run, scene=args.scene, **common(args, "to"))
    return run_watched(args, start, _summary)


def _summary(result: "TrainResult") -> str:
    run, metrics = result.run, result.metrics
    lines = [f"{run}: {result.step} steps"]
    if metrics:
        teacher = metrics["teacher"]
        lines[0] += f" in {metrics['train_seconds']:.1f} s"
        lines.append(
            f"Against its teacher, {metrics['views_of_teacher']} views: "
            f"PSNR {metrics['psnr_to_teacher']:.2f} dB"
        )
        if metrics["psnr"] is not None:
            lines.append(
                f"{metrics['views']} {metrics['split']} views: PSNR {metrics['psnr']:.2f} dB, "
                f"the teacher's {teacher['psnr']:.2f} dB"
            )
        lines.append(f"Bytes: {teacher['bytes']:,} before, {metrics['bytes']:,} now")
    lines.append(f"Next: polyfield render {run} --path orbit --out {run}/renders/orbit.mp4")
    return "\n".join(lines)
