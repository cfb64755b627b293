"""HollowNeRF (Xie et al. 2023): what a gate that is kept mostly empty buys, at equal settings.

The preset `hollow` with a table of 2^17 entries a level, and the same field without its gate with 2^17 and 2^19: same
encoder, heads, steps, seed and training settings. Told are the PSNR of the held-out views, the share of the gate's
vertices with p below a half, bytes on the disk, and numbers in the file. The gated model is pruned, as every finished
run is (`--set train.prune=0` leaves it whole).

usage: python benchmarks/hollow.py SCENE [--steps 5000] [--downscale 4] [--seed 0] [--threads 2] [--out FOLDER]
           [--set KEY=VALUE ...]
"""

import argparse
import tempfile
from pathlib import Path

import polyfield
from polyfield.fields import model_file
from polyfield.fields.presets import preset

CASES = {"hashgrid 2^17": (17, False), "hashgrid 2^19": (19, False), "hollow 2^17": (17, True)}


def settings(log2_table: int, gated: bool) -> list[str]:
    """Changes to the preset `hollow` for a case."""
    changes = [f"field.encoder.log2_table={log2_table}"]
    return changes if gated else [*changes, "field.gate=null"]


def run(name: str, out: Path, args: argparse.Namespace) -> str:
    """Train a case and give its row."""
    result = polyfield.train(
        args.scene,
        out=out,
        field="hollow",
        steps=args.steps,
        downscale=args.downscale,
        seed=args.seed,
        threads=args.threads,
        changes=[*settings(*CASES[name]), *args.set],
        overwrite=True,
    )
    seen = result.metrics
    gate = model_file.load(out).module.gate
    empty = "" if gate is None else f"{100 * gate.empty_share():.1f} %"
    return (
        f"{seen['psnr']:8.2f} {empty:>8} {seen['bytes']:>12,} {seen['stored_values']:>12,} "
        f"{seen['train_seconds']:8.0f}"
    )


def main() -> None:
    """Print a row for each case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scene", nargs="?", help="folder of a scene; left out: the built-in one")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--downscale", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="keep the runs here")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    print(f"{args.steps} steps, seed {args.seed}; {preset('hollow')['about']}")
    print(f"{'':<15} {'dB':>8} {'p < .5':>8} {'bytes':>12} {'stored':>12} {'seconds':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.out or Path(scratch)
        for name in CASES:
            row = run(name, folder / name.replace(" ", "-").replace("^", ""), args)
            print(f"{name:<15} {row}", flush=True)


if __name__ == "__main__":
    main()
