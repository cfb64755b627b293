"""`polyfield eval`: how good a run is."""

import argparse
from pathlib import Path
from typing import Any

from polyfield.cli.arguments import Parser, add_json, add_threads, choice, print_json
from polyfield.cli.progress import ProgressDisplay

__all__ = ["configure", "run", "table"]


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder or field.safetensors")
    parser.add_argument("--scene", metavar="SCENE", help="where the images lie now, if they moved")
    parser.add_argument(
        "--split", type=choice("test", "val", "train"), default="test", help="default test"
    )
    parser.add_argument("--save-images", action="store_true", help="write the views to RUN/renders")
    parser.add_argument(
        "--lpips", type=Path, metavar="FILE", help="weights of LPIPS (AlexNet) as safetensors"
    )
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, and print a row for each view."""
    from polyfield.training.api import evaluate

    with ProgressDisplay() as show:
        metrics = evaluate(
            args.run,
            scene=args.scene,
            split=args.split,
            save_images=args.save_images,
            lpips=args.lpips,
            threads=args.threads,
            on_progress=show,
        )
    if args.json:
        print_json(metrics)
    else:
        print(table(metrics))
    return 0


def table(metrics: dict[str, Any]) -> str:
    """Lay out what metrics.json holds as a table."""
    if "per_view" not in metrics:
        shown = [k for k in _OF_FITS if k in metrics]
        return "\n".join(f"{key:<14} {_number(metrics[key])}" for key in shown)
    rows = [(view["name"], view["psnr"], view["ssim"]) for view in metrics["per_view"]]
    rows.append(("mean", metrics["psnr"], metrics["ssim"]))
    width = max(len(name) for name, _, _ in rows)
    lines = [f"{'view':<{width}}  PSNR dB    SSIM"]
    lines += [f"{name:<{width}}  {psnr:7.2f}  {ssim:6.4f}" for name, psnr, ssim in rows]
    protocol = ", ".join(f"{key} {value}" for key, value in (metrics["protocol"] or {}).items())
    lpips = metrics.get("lpips")
    note = f"LPIPS {lpips:.4f}" if lpips is not None else "LPIPS not computed (no weights given)"
    return "\n".join([*lines, f"{metrics['split']} views; {protocol}; {note}"])


_OF_FITS = (
    *("psnr", "psnr_unseen", "ssim", "iou", "iou_near", "normal_error"),
    *("error_on", "error_near", "error"),
    *("accuracy", "completeness", "f_score", "normal_consistency"),
    *("parameters", "stored_values", "bytes"),
)


def _number(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.01 else f"{value:.2e}"
