"""`polyfield fit`: fit a field to an image, a function on the sphere, or a mesh."""

import argparse
from functools import partial
from typing import TYPE_CHECKING

from polyfield.cli.arguments import Parser
from polyfield.cli.running import add_kind, add_run_arguments, common, refuse_fixed, run_watched
from polyfield.errors import InputError

if TYPE_CHECKING:
    from polyfield.training.running import TrainResult

__all__ = ["configure", "run"]


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.set_defaults(command="fit")
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="image or mesh; not needed with --resume"
    )
    add_kind(parser)
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Fit, and say where the run lies and how good it is."""
    if args.file is None and not args.resume:
        raise InputError("polyfield fit: still needed: FILE, an image or a mesh.")
    refuse_fixed(args, ("field", "seed", "precision", "set"))
    if args.resume and args.kind is not None:
        raise InputError("--as cannot change in a run that goes on with --resume.")
    from polyfield.training.fit import fit

    return run_watched(args, partial(fit, args.file, kind=args.kind, **common(args)), _summary)


def _summary(result: "TrainResult") -> str:
    metrics = result.metrics
    lines = [f"{result.run}: {result.step} steps in {metrics['train_seconds']:.1f} s"]
    size = f"{metrics['stored_values']:,} stored values"
    if "psnr" in metrics:
        similar = "" if metrics["ssim"] is None else f", SSIM {metrics['ssim']:.4f}"
        unseen = metrics.get("psnr_unseen")
        apart = "" if unseen is None else f" ({unseen:.2f} where it did not look)"
        lines.append(f"PSNR {metrics['psnr']:.2f} dB{apart}{similar}; {size}")
        lines.append(f"Next: open {result.run}/renders/reconstruction.png")
        return "\n".join(lines)
    if "iou" in metrics:
        lines.append(
            f"IoU {metrics['iou']:.5f}, {metrics['iou_near']:.5f} near the surface; normals are "
            f"{metrics['normal_error']:.2f} degrees off; {size}"
        )
    else:
        lines.append(
            f"Distances are {metrics['error_near']:.2e} off near the surface, {metrics['error']:.2e} anywhere; {size}"
        )
    if "accuracy" in metrics:
        lines.append(
            f"Its mesh is {metrics['accuracy']:.2e} off the true one, which is {metrics['completeness']:.2e} off it; "
            f"normals agree by {metrics['normal_consistency']:.4f}"
        )
    lines.append(f"Next: polyfield mesh {result.run} --out {result.run}/mesh.ply")
    return "\n".join(lines)
