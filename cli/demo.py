"""`polyfield demo`: the whole tour on the built-in scene, ending in one report page."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyfield.cli.arguments import (
    Parser,
    add_json,
    add_threads,
    duration,
    print_json,
    whole,
)
from polyfield.cli.running import watched

if TYPE_CHECKING:
    from polyfield.training.progress import Progress
    from polyfield.training.report import Report

__all__ = ["configure", "run"]

_VIEWS = 4  # of the test views are shown in the report


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="default: ./demo"
    )
    parser.add_argument("--budget", type=duration, default=45.0, metavar="TIME", help="default 45s")
    parser.add_argument("--steps", type=whole(1, 10**9), metavar="N", help="instead of a budget")
    parser.add_argument("--frames", type=whole(1, 1000), default=60, metavar="N", help="default 60")
    parser.add_argument("--overwrite", action="store_true", help="replace an older demo in --out")
    parser.add_argument("--seed", type=whole(0, 2**31 - 1), default=0, metavar="N")
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Train, evaluate, render, and write the page."""
    from polyfield.datasets.load import load_scene
    from polyfield.training.api import evaluate, train
    from polyfield.training.progress import Progress as Told
    from polyfield.training.rendering import render

    folder = args.out / "run"
    with watched() as (tell, control, signals):
        scene = load_scene(None)
        result = train(
            scene,
            out=folder,
            budget=None if args.steps else args.budget,
            steps=args.steps,
            seed=args.seed,
            overwrite=args.overwrite,
            threads=args.threads,
            on_progress=tell,
            control=control,
        )
        if result.interrupted:
            print(f"Interrupted; the run is saved in {folder}.", file=sys.stderr)
            return signals.status
        signals.busy = False
        metrics = evaluate(
            folder,
            save_images=True,
            threads=args.threads,
            on_progress=_unseen,
        )
        video, depth = folder / "renders" / "orbit.mp4", folder / "renders" / "orbit-depth"
        tell(Told(message=f"Rendering {args.frames} frames of an orbit."))
        common = {"path": "orbit", "width": 400, "height": 400, "threads": args.threads}
        render(folder, out=video, frames=args.frames, on_progress=_unseen, **common)
        render(folder, out=depth, frames=1, depth=True, on_progress=_unseen, **common)
    page = args.out / "report.html"
    _report(scene, metrics, folder).write(page)
    if args.json:
        print_json({"report": page.resolve(), "run": folder, **metrics})
    else:
        print(f"PSNR {metrics['psnr']:.2f} dB on {metrics['views']} views that were held out.")
        print(f"The report: {page.resolve()}")
    return 0


def _unseen(progress: "Progress") -> None:
    """Drop what views and frames tell one by one: a line each would bury the rest."""
    del progress


def _report(scene: Any, metrics: dict[str, Any], folder: Path) -> "Report":
    from PIL import Image

    from polyfield import __version__
    from polyfield.datasets.inspect_picture import draw_scene
    from polyfield.training.report import Report, Section, loss_curves, picture, table
    from polyfield.training.run_folder import RunFolder

    renders = folder / "renders"
    seen = sorted(renders.glob("test_*.png"))[:_VIEWS]
    tests = scene.split["test"]
    pairs = []
    for number, file in enumerate(seen):
        row = metrics["per_view"][number]
        pairs.append(picture(_photograph(scene, tests[number]), f"{row['name']}: the truth"))
        pairs.append(picture(file, f"rendered, {row['psnr']:.2f} dB"))
    quality = [(v["name"], f"{v['psnr']:.2f}", f"{v['ssim']:.4f}") for v in metrics["per_view"]]
    quality.append(("mean", f"{metrics['psnr']:.2f}", f"{metrics['ssim']:.4f}"))
    facts = [
        ("steps", metrics["steps"]),
        ("training", f"{metrics['train_seconds']:.1f} s"),
        ("parameters", f"{metrics['parameters']:,}"),
        ("file", f"{metrics['bytes'] / 1e6:.1f} MB"),
        ("peak memory", f"{metrics['peak_memory_bytes'] / 1e9:.2f} GB"),
        ("LPIPS", "not computed: no weights were given"),
    ]
    commands = (
        "<pre>polyfield train builtin --out run --budget 45s\n"
        "polyfield eval run --save-images\n"
        "polyfield render run --path orbit --out orbit.mp4</pre>"
    )
    cameras = Image.fromarray(draw_scene(scene))
    return Report(
        "Polyfield: the tour",
        f"A radiance field, trained by polyfield {__version__} on {len(scene.split['train'])} pictures "
        f"of its built-in scene, and measured on {len(tests)} that it never saw.",
        [
            Section(
                "Around the scene",
                [
                    picture(renders / "orbit.mp4", "an orbit"),
                    picture(
                        next((renders / "orbit-depth").glob("*.png")), "depth of its first frame"
                    ),
                ],
            ),
            Section("Held-out views", pairs),
            Section("Quality", [table(quality, ("view", "PSNR dB", "SSIM"))]),
            Section(
                "The run", [table(facts), loss_curves({"": RunFolder.open(folder).read_log()})]
            ),
            Section("The cameras", [picture(cameras, "the box and the cameras from three sides")]),
            Section("The same by hand", [commands]),
        ],
    )


def _photograph(scene: Any, view: int) -> Any:
    """A picture of the scene on white, as evaluation sees it."""
    from PIL import Image

    rgba = scene.images.image(view)
    color = rgba[..., :3] + (1 - rgba[..., 3:])  # colours are premultiplied
    return Image.fromarray((color.clamp(0, 1) * 255).round().byte().numpy())
