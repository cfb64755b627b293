"""What the commands that train have in common: flags, signals, how the end is told."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from polyfield.training.loop import Control
    from polyfield.training.running import Tell, TrainResult

__all__ = ["add_kind", "add_run_arguments", "common", "refuse_fixed", "run_watched", "watched"]


def add_run_arguments(parser: Parser, field: str = "field") -> None:
    """Add --out, the preset, the length, seed, precision, --set, resuming, threads and --json.

    Args:
        parser: Of a command that trains.
        field: Name of the flag for the preset.
    """
    parser.add_argument("--out", required=True, type=Path, metavar="RUN", help="run folder to make")
    parser.add_argument(
        f"--{field}", metavar="PRESET", help="hashgrid (default), nerf, tensorf, ..."
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--budget", type=duration, metavar="TIME", help="60s, 5m, 1h (default 60s)")
    length.add_argument("--steps", type=whole(1, 10**9), metavar="N", help="exact number of steps")
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
        help="change one value of the config, as field.encoder.levels=8; may be repeated",
    )
    add_threads(parser)
    add_json(parser)


def refuse_fixed(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Refuse flags that say something of a run that goes on: there they are what they were, and are not ignored."""
    if args.resume:
        for name in names:
            if getattr(args, name.replace("-", "_")) not in (None, []):
                raise InputError(f"--{name} cannot change in a run that goes on with --resume.")


def common(args: argparse.Namespace, field: str = "field") -> dict[str, Any]:
    """Give what `add_run_arguments` added, with the same flag for the preset, as arguments of the Python API."""
    budget = args.budget
    if budget is None and args.steps is None and not args.resume:
        budget = 60.0
    return {
        "out": args.out,
        field: "hashgrid" if (named := getattr(args, field)) is None else named,
        "budget": budget,
        "steps": args.steps,
        "seed": args.seed or 0,
        "precision": args.precision,
        "changes": tuple(args.set),
        "save_every": args.save_every,
        "resume": args.resume,
        "overwrite": args.overwrite,
        "threads": args.threads,
    }


def add_kind(parser: Parser) -> None:
    """Add --as."""
    parser.add_argument(
        "--as",
        dest="kind",
        type=choice("image", "sphere", "sdf", "udf", "occupancy"),
        metavar="KIND",
        help="image, sphere, sdf, udf or occupancy (default: by the file)",
    )


@contextmanager
def watched() -> Iterator[tuple["Tell", "Control", StopOnSignal]]:
    """Show progress on stderr and heed signals: gives whom to tell, the control that signals stop, and the signals."""
    from polyfield.training.loop import Control
    from polyfield.training.progress import Progress

    control = Control()
    with (
        StopOnSignal(control.stop.set, control.saving.is_set) as signals,
        ProgressDisplay() as show,
    ):

        def tell(progress: Progress) -> None:
            # Steps are told without a message; loading and evaluating are told with one.
            signals.busy = progress.step > 0 and not progress.message
            show(progress)

        yield tell, control, signals


def run_watched(
    args: argparse.Namespace,
    start: Callable[..., "TrainResult"],
    summary: Callable[["TrainResult"], str],
) -> int:
    """Run, with its progress on stderr and signals heeded, and say how it ended.

    Args:
        args: Of the command.
        start: Takes `on_progress` and `control`.
        summary: What to print of a run that came to its end.
    """
    with watched() as (tell, control, signals):
        result = start(on_progress=tell, control=control)
    if args.json:
        done = {"run": result.run, "steps": result.step, "interrupted": result.interrupted}
        print_json({**done, **result.metrics})
    if result.interrupted:
        print(
            f"Interrupted; saved at step {result.step}. "
            f"Go on with: polyfield {args.command} --resume --out {result.run}",
            file=sys.stderr,
        )
        return signals.status
    if not args.json:
        print(summary(result))
    return 0
