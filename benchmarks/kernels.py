"""Speed of every kernel against plain torch and against what the machine allows.

    python benchmarks/kernels.py [--threads 1,2] [--only mlp,hash_grid] [--json FILE] [--compile] [--clock cpu]

Each file of `rows/` measures one family. `--compile` lets torch.compile compete where a family offers it (slow).
The JSON holds {"floors": {threads: rates}, "rows": [{"name", "case", "threads", "isa", "points_per_s",
"torch_points_per_s", "floor_points_per_s"}]}.
"""

import argparse
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))  # row files say `from harness import Row`

from harness import Bench, Row, measure_floors  # noqa: E402

from polyfield import native  # noqa: E402
from polyfield.errors import InputError, PolyfieldError, nearest  # noqa: E402
from polyfield.files import write_json  # noqa: E402


def families(only: str | None) -> list[str]:
    known = sorted(path.stem for path in (FOLDER / "rows").glob("*.py"))
    if only is None:
        return known
    chosen = only.split(",")
    for name in chosen:
        if name not in known:
            raise InputError(f"--only: there is no family {name!r}.{nearest(name, known)}")
    return chosen


def rows_of(family: str, bench: Bench) -> Iterable[Row]:
    spec = importlib.util.spec_from_file_location(
        f"rows_{family}", FOLDER / "rows" / f"{family}.py"
    )
    if spec is None or spec.loader is None:
        raise InputError(f"benchmarks/rows/{family}.py cannot be loaded.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.rows(bench)  # type: ignore[no-any-return]


def rate(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e6:.2f}"


def share(part: float, whole: float | None, unit: str) -> str:
    if whole is None:
        return "-"
    return f"{part / whole:.2f}{unit}" if unit == "x" else f"{100 * part / whole:.0f}{unit}"


def print_row(row: Row, threads: int) -> None:
    print(
        f"{row.name:24s} {row.case:40s} {threads:2d} {rate(row.points_per_s):>9s} "
        f"{rate(row.torch_points_per_s):>9s} {share(row.points_per_s, row.torch_points_per_s, 'x'):>7s} "
        f"{rate(row.floor_points_per_s):>9s} {share(row.points_per_s, row.floor_points_per_s, '%'):>5s}",
        flush=True,
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    native.core().keep_memory()
    report: dict[str, Any] = {"floors": {}, "rows": []}
    for threads in (int(text) for text in arguments.threads.split(",")):
        torch.set_num_threads(threads)
        floors = measure_floors(threads, arguments.clock)
        report["floors"][str(threads)] = floors
        print(
            f"{native.isa()}, {threads} thread(s): "
            + ", ".join(f"{name} {value / 1e9:.3g} G/s" for name, value in floors.items())
        )
        print(
            f"{'operation':24s} {'case':40s} {'th':>2s} {'M points/s':>9s} {'torch':>8s} {'ratio':>7s} "
            f"{'floor':>9s} {'of it':>5s}"
        )
        bench = Bench(threads, floors, arguments.compile, arguments.clock)
        for family in families(arguments.only):
            for row in rows_of(family, bench):
                print_row(row, threads)
                report["rows"].append(
                    {
                        "name": row.name,
                        "case": row.case,
                        "threads": threads,
                        "isa": native.isa(),
                        "points_per_s": row.points_per_s,
                        "torch_points_per_s": row.torch_points_per_s,
                        "floor_points_per_s": row.floor_points_per_s,
                    }
                )
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", default="1,2", help="thread counts, one table each: 1,2")
    parser.add_argument("--only", help="families, comma-separated (default: all)")
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    parser.add_argument("--compile", action="store_true", help="let torch.compile compete")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: on a shared machine"
    )
    arguments = parser.parse_args()
    try:
        families(arguments.only)
        report = run(arguments)
        if arguments.json is not None:
            write_json(arguments.json, report)
    except PolyfieldError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
