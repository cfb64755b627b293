"""`polyfield compare`: several fields on the same thing, under the same budget."""

import argparse
import sys
from pathlib import Path
from typing import Any

from polyfield.cli.arguments import (
    Parser,
    add_json,
    add_threads,
    duration,
    print_json,
    whole,
)
from polyfield.cli.running import add_kind, watched

__all__ = ["configure", "run"]


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "source", metavar="SCENE|FILE", help="folder of posed images, 'builtin', image, or mesh"
    )
    parser.add_argument(
        "--fields", required=True, metavar="A,B,C", help="presets, as hashgrid,kplanes"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to make")
    add_kind(parser)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--budget", type=duration, metavar="TIME", help="of each (default 60s)")
    length.add_argument("--steps", type=whole(1, 10**9), metavar="N", help="of each")
    parser.add_argument(
        "--downscale", type=whole(1, 64), default=1, metavar="K", help="of posed images"
    )
    parser.add_argument("--seed", type=whole(0, 2**31 - 1), default=0, metavar="N")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="in each field's config"
    )
    parser.add_argument("--resume", action="store_true", help="keep what is done in --out")
    parser.add_argument("--overwrite", action="store_true", help="replace the runs in --out")
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Train them one after the other, print a table, write the page."""
    from polyfield.training.compare import compare

    with watched() as (tell, control, signals):
        result = compare(
            args.source,
            fields=[name.strip() for name in args.fields.split(",") if name.strip()],
            out=args.out,
            kind=args.kind,
            budget=args.budget,
            steps=args.steps,
            downscale=args.downscale,
            seed=args.seed,
            changes=tuple(args.set),
            resume=args.resume,
            overwrite=args.overwrite,
            threads=args.threads,
            on_progress=tell,
            control=control,
        )
    if args.json:
        print_json({"rows": result.rows, "page": result.page, "interrupted": result.interrupted})
    elif result.rows:
        print("\n".join([*_lines(result.rows), f"The page: {result.page}"]))
    if result.interrupted:
        print("Interrupted; go on with the same command and --resume.", file=sys.stderr)
        return signals.status
    return 1 if any("failed" in row for row in result.rows) else 0


_COLUMNS = {
    "field": ("field", "{}"),
    "psnr": ("PSNR dB", "{:.2f}"),
    "psnr_unseen": ("unseen dB", "{:.2f}"),
    "ssim": ("SSIM", "{:.4f}"),
    "iou": ("IoU", "{:.5f}"),
    "iou_near": ("IoU near", "{:.4f}"),
    "normal_error": ("normals off", "{:.2f}"),
    "error_near": ("error near", "{:.2e}"),
    "accuracy": ("accuracy", "{:.2e}"),
    "completeness": ("complete", "{:.2e}"),
    "parameters": ("trained", "{:,}"),
    "stored_values": ("stored", "{:,}"),
    "bytes": ("bytes", "{:,}"),
    "steps": ("steps", "{:,}"),
    "train_seconds": ("seconds", "{:.1f}"),
    "samples_per_second": ("samples/s", "{:,.0f}"),
}


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    """A table; runs that failed have their sentence under it."""
    shown = {key: column for key, column in _COLUMNS.items() if any(key in row for row in rows)}
    cells = [[title for title, _ in shown.values()]]
    for row in rows:
        cells.append(
            [
                "-" if row.get(key) is None else form.format(row[key])
                for key, (_, form) in shown.items()
            ]
        )
    widths = [max(len(line[i]) for line in cells) for i in range(len(shown))]
    lines = ["  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in cells]
    return lines + [f"{row['field']} failed: {row['failed']}" for row in rows if "failed" in row]
