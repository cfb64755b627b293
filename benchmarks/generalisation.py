"""What fields say between the pixels that they learnt from: a plain perceptron and one that is modulated by place.

Every second pixel of every second row trains, all pixels test (the protocol of CAM, Lee et al. 2024, for images). Both
presets, `nerf` and `cam`, take the same steps on the same batches: their parameters differ by the 6,144 of the grids.

On a crop give --sides too: 32 vertices a side are meant for 512 pixels, of which half are seen.

usage: python benchmarks/generalisation.py IMAGE... [--steps 2000] [--crop 128 --sides 8] [--threads 2] [--set K=V]
"""

import argparse
import tempfile
import time
from pathlib import Path

from PIL import Image

from polyfield.training.fit import fit

FIELDS = ("nerf", "cam")


def central(file: Path, side: int, folder: Path) -> Path:
    """Save the middle of an image, a square of this many pixels a side or what there is of it."""
    with Image.open(file) as image:
        width, height = min(side, image.width), min(side, image.height)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        part = folder / f"{file.stem}.png"
        image.crop((left, top, left + width, top + height)).save(part)
    return part


def main() -> None:
    """Print a row for each image, and the mean."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--crop", type=int, help="pixels a side of the middle; else all of it")
    parser.add_argument("--sides", type=int, default=32, help="vertices a side of the grids")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    changes = ["train.every=2", *args.set]
    own = {"cam": [f"field.head.sides=[{args.sides},{args.sides}]"]}
    of = "all" if args.crop is None else f"the middle {args.crop} x {args.crop}"
    print(f"{args.steps} steps, {of} of each image, grids of {args.sides} x {args.sides}")
    print("PSNR of all pixels (of those not seen), dB; seconds of training", *args.set)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in args.images:
            image = file if args.crop is None else central(file, args.crop, folder)
            found, told = [], []
            for field in FIELDS:
                begun = time.perf_counter()
                out = folder / f"{file.stem}-{field}"
                plan = {"steps": args.steps, "seed": args.seed, "threads": args.threads}
                settings = [*changes, *own.get(field, [])]
                metrics = fit(
                    image, kind="image", field=field, out=out, changes=settings, **plan
                ).metrics
                found.append(metrics["psnr"])
                told.append(
                    f"{field} {metrics['psnr']:.2f} ({metrics['psnr_unseen']:.2f}), "
                    f"{time.perf_counter() - begun:.0f} s"
                )
            rows.append(found)
            print(f"{file.stem:<12} {'   '.join(told)}   {found[1] - found[0]:+.2f}", flush=True)
    plain, modulated = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    print(f"mean         nerf {plain:.2f}   cam {modulated:.2f}   {modulated - plain:+.2f}")


if __name__ == "__main__":
    main()
