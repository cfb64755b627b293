"""Every architecture into every other: quality, time and size, as a table and a heat map.

Teachers are trained on the scene; each teaches all others, without images; each field is also trained on the images for
once, three and ten times as long as a conversion takes. A student should show the test views as well as the worse of
its teacher and of itself trained on the images for ten times as long. Without --baselines only teachers and conversions
run; those that are missing may follow later.

Runs that are done are kept in --out, and what was begun is gone on with: the same command again finishes what was cut
off. `matrix.json` has all figures of what is done by then, `matrix.html` the table.

usage: python benchmarks/conversion_matrix.py SCENE --out FOLDER [--fields A,B,C] [--downscale 4] [--teach 120]
           [--convert 60] [--slow nerf,cam] [--baselines 1 3 10] [--threads 2] [--only TEACHER:STUDENT ...]
"""

import argparse
import html
import json
from pathlib import Path
from typing import Any

import polyfield
from polyfield.fields.presets import preset_names

SLOWER = {"teach": 5.0, "convert": 3.0}  # how much longer deep perceptrons take
BASELINES = (1, 3, 10)


class Matrix:
    """The runs of a matrix.

    Args:
        args: Of the command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.fields = args.fields.split(",")
        self.slow = set(args.slow.split(","))

    def seconds(self, what: str, field: str) -> float:
        """Budget of teaching or converting a field."""
        budget = float(getattr(self.args, what))
        return budget * SLOWER[what] if field in self.slow else budget

    def make(self, teacher: str, student: str) -> None:
        """Make what is missing of a pair: the teacher, the conversion, the student trained on the images."""
        self._train(self._teacher(teacher), teacher, self.seconds("teach", teacher))
        self._convert(teacher, student)
        for times in self.args.baselines:
            budget = times * self.seconds("convert", student)
            self._train(self._scratch(student, times), student, budget)

    def row(self, teacher: str, student: str) -> dict[str, Any] | None:
        """Figures of a pair, with all baselines that are there; None where it was not made yet."""
        taught, found = told(self._teacher(teacher)), told(self._pair(teacher, student))
        if not taught or not found:
            return None
        budget = self.seconds("convert", student)
        runs = {
            times * budget: told(self._scratch(student, times))
            for times in sorted({*BASELINES, *self.args.baselines})
        }
        scratch = {seconds: run["psnr"] for seconds, run in runs.items() if run}
        as_good = [seconds for seconds, psnr in scratch.items() if psnr >= found["psnr"]]
        aim = min(taught["psnr"], scratch.get(max(BASELINES) * budget, taught["psnr"]))
        return {
            "teacher": teacher,
            "student": student,
            "teacher_psnr": taught["psnr"],
            "psnr": found["psnr"],
            "psnr_to_teacher": found["psnr_to_teacher"],
            "scratch": scratch,
            "seconds": found["train_seconds"],
            "seconds_from_scratch": min(as_good, default=None),
            "behind": aim - found["psnr"],
            "bytes_before": taught["bytes"],
            "bytes": found["bytes"],
        }

    def _teacher(self, field: str) -> Path:
        return Path(self.args.out / f"teacher-{field}")

    def _pair(self, teacher: str, student: str) -> Path:
        return Path(self.args.out / f"{teacher}-to-{student}")

    def _scratch(self, field: str, times: int) -> Path:
        return Path(self.args.out / f"scratch-{field}-{times}")

    def _train(self, out: Path, field: str, budget: float) -> None:
        if not told(out):
            plan = planned(out, field=field, budget=budget, downscale=self.args.downscale)
            polyfield.train(self.args.scene, out=out, threads=self.args.threads, **plan)

    def _convert(self, teacher: str, student: str) -> None:
        out, budget = self._pair(teacher, student), self.seconds("convert", student)
        if not (out / "metrics.json").exists():
            plan = planned(out, to=student, budget=budget)
            polyfield.convert(self._teacher(teacher), out=out, threads=self.args.threads, **plan)
        if not told(out):
            polyfield.evaluate(out, scene=self.args.scene, threads=self.args.threads)


def planned(out: Path, **anew: Any) -> dict[str, Any]:
    """How to make a run: go on with what was begun, else as is said."""
    begun = (out / "state.safetensors").exists()
    return {"resume": True} if begun else {**anew, "overwrite": True}


def told(out: Path) -> dict[str, Any]:
    """What a run's metrics.json says; nothing where it does not say yet what the test views look like."""
    if not (out / "metrics.json").exists():
        return {}
    data: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return data if data.get("psnr") is not None else {}


def page(rows: list[dict[str, Any]], fields: list[str]) -> str:
    """The heat map: a row for each teacher, a column for each student."""
    cells = {(row["teacher"], row["student"]): row for row in rows}
    lines = [
        "<tr><th>teacher</th>" + "".join(f"<th>{html.escape(f)}</th>" for f in fields) + "</tr>"
    ]
    for teacher in fields:
        line = f"<th>{html.escape(teacher)}</th>"
        for student in fields:
            row = cells.get((teacher, student))
            if row is None:
                line += "<td></td>"
                continue
            shade = max(0.0, min(1.0, row["behind"] / 2.0))  # 2 dB behind: red
            color = f"hsl({120 * (1 - shade):.0f}, 60%, 80%)"
            line += f'<td style="background:{color}">{row["psnr"]:.2f}<br><small>{-row["behind"]:+.2f}</small></td>'
        lines.append(f"<tr>{line}</tr>")
    style = "td,th{padding:6px 10px;text-align:center;font-family:sans-serif}"
    return (
        f'<!doctype html><meta charset="utf-8"><title>Conversions</title><style>{style}</style>'
        "<p>PSNR of the test views, dB; below it how far above the worse of the teacher and of the student trained on "
        f"the images for ten times as long.</p><table>{''.join(lines)}</table>"
    )


def main() -> None:
    """Make what is missing, pair by pair, and print a row for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scene")
    parser.add_argument("--out", type=Path, required=True)
    every = [name for name in preset_names() if name != "cam-ray"]
    parser.add_argument("--fields", default=",".join(every))
    parser.add_argument("--slow", default="nerf,cam", help="fields that take longer")
    parser.add_argument("--downscale", type=int, default=4)
    parser.add_argument("--teach", type=float, default=120.0, help="seconds")
    parser.add_argument("--convert", type=float, default=60.0, help="seconds")
    parser.add_argument(
        "--baselines",
        type=int,
        nargs="*",
        default=list(BASELINES),
        help="times --convert; may be none",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", metavar="TEACHER:STUDENT")
    args = parser.parse_args()
    matrix = Matrix(args)
    every_pair = pairs = [(a, b) for a in matrix.fields for b in matrix.fields if a != b]
    if args.only:
        named = [tuple(pair.split(":")) for pair in args.only]
        strange = [":".join(pair) for pair in named if pair not in pairs]
        if strange:
            parser.error(f"--only wants TEACHER:STUDENT, two of --fields, but got {strange[0]!r}.")
        pairs = named
    print(
        f"{'teacher':<11} {'dB':>6}   {'student':<11} {'dB':>6} {'behind':>6} {'s':>5} {'scratch s':>9} {'bytes':>12}"
    )
    for teacher, student in pairs:
        matrix.make(teacher, student)
        found = {pair: matrix.row(*pair) for pair in every_pair}
        rows = [row for row in found.values() if row is not None]
        (args.out / "matrix.json").write_text(json.dumps(rows, indent=1))
        (args.out / "matrix.html").write_text(page(rows, matrix.fields), encoding="utf-8")
        row = found[teacher, student]
        assert row is not None  # it was made just now
        alone = row["seconds_from_scratch"]
        print(
            f"{teacher:<11} {row['teacher_psnr']:6.2f}   {student:<11} {row['psnr']:6.2f} {row['behind']:+6.2f} "
            f"{row['seconds']:5.0f} {'longer' if alone is None else f'{alone:.0f}':>9} {row['bytes']:>12,}",
            flush=True,
        )


if __name__ == "__main__":
    main()
