"""`polyfield train`: fit a radiance field to posed images."""

import argparse
import sys
from pathlib import Path
from typing import Any

from polyfield.cli.arguments import (
    Parser,
    add_json,
    add_threads,
    choice,
    duration,
    print_json,
    whole,
)
from polyfield.cli.interrupt import StopOnSignal
from polyfield.cli.progress import ProgressDisplay
from polyfield.errors import InputError

__all__ = ["configure", "run"]


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "scene",
        nargs="?",
        metavar="SCENE",
        help="folder of posed images, or 'builtin'; not needed with --resume",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="RUN", help="run folder to make")
    parser.add_argument("--field", metavar="PRESET", help="hashgrid (default), nerf, ...")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--budget", type=duration, metavar="TIME", help="60s, 5m, 1h (default 60s)")
    length.add_argument("--steps", type=whole(1, 10**9), metavar="N", help="exact number of steps")
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
    parser.add_argument(
        "--save-every", type=duration, default=300.0, metavar="TIME", help="default 5m"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    parser.add_argument("--seed", type=whole(0, 2**31 - 1), metavar="N", help="default 0")
    parser.add_argument(
        "--precision", type=choice("fp32", "bf16"), metavar="P", help="of the MLPs: fp32 or bf16"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value of the config, as encoder.levels=8; may be repeated",
    )
    add_threads(parser)
    add_json(parser)


# Of a run that goes on, these are what they were; a flag that is given is refused, not ignored.
_FIXED = ("field", "downscale", "background", "format", "seed", "precision", "set")


def run(args: argparse.Namespace) -> int:
    """Train, and say where the run lies and how good it is."""
    if args.scene is None and not args.resume:
        raise InputError("polyfield train: still needed: SCENE, a folder of posed images.")
    if args.resume:
        for name in _FIXED:
            if getattr(args, name) not in (None, []):
                raise InputError(f"--{name} cannot change in a run that goes on with --resume.")
    from polyfield.training.api import train
    from polyfield.training.loop import Control
    from polyfield.training.progress import Progress

    budget = args.budget
    if budget is None and args.steps is None and not args.resume:
        budget = 60.0
    control = Control()
    with (
        StopOnSignal(control.stop.set, control.saving.is_set) as signals,
        ProgressDisplay() as show,
    ):

        def tell(progress: Progress) -> None:
            # Steps are told without a message; loading and evaluating are told with one.
            signals.busy = progress.step > 0 and not progress.message
            show(progress)

        result = train(
            args.scene,
            out=args.out,
            field="hashgrid" if args.field is None else args.field,
            budget=budget,
            steps=args.steps,
            downscale=args.downscale or 1,
            background=args.background or "random",
            format=args.format,
            seed=args.seed or 0,
            precision=args.precision,
            changes=tuple(args.set),
            save_every=args.save_every,
            resume=args.resume,
            overwrite=args.overwrite,
            threads=args.threads,
            on_progress=tell,
            control=control,
        )
    if args.json:
        done = {"run": result.run, "steps": result.step, "interrupted": result.interrupted}
        print_json({**done, **result.metrics})
    if result.interrupted:
        print(
            f"Interrupted; saved at step {result.step}. "
            f"Go on with: polyfield train --resume --out {result.run}",
            file=sys.stderr,
        )
        return signals.status
    if not args.json:
        print(_summary(result.run, result.step, result.metrics))
    return 0


def _summary(run: Path, steps: int, metrics: dict[str, Any]) -> str:
    lines = [f"{run}: {steps} steps"]
    if metrics:
        lines[0] += f" in {metrics['train_seconds']:.1f} s"
        quality = f"PSNR {metrics['psnr']:.2f} dB, SSIM {metrics['ssim']:.4f}"
        lines.append(f"{metrics['views']} {metrics['split']} views: {quality}")
    lines.append(f"Next: polyfield render {run} --path orbit --out {run}/renders/orbit.mp4")
    return "\n".join(lines)
