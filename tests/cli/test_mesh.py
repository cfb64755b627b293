"""What `polyfield mesh` hands to the Python API and prints, with the API replaced by a recorder."""

import json
from pathlib import Path
from typing import Any

import pytest

from polyfield.cli import main
from polyfield.training import extraction

REPORT = {
    "vertices": 1200,
    "faces": 2396,
    "boundary_edges": 0,
    "nonmanifold_edges": 0,
    "components": 1,
    "watertight": True,
    "level": 35.961,
    "seconds": 8.52,
    "mesh": "lego.glb",
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    calls: dict[str, Any] = {}

    def extract_mesh(run: Path, **settings: Any) -> dict[str, Any]:
        calls.update(settings, run=run)
        return calls.get("report", REPORT)

    monkeypatch.setattr(extraction, "extract_mesh", extract_mesh)
    return calls


def test_defaults(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["mesh", "runs/lego", "--out", "lego.glb"]) == 0
    asked.pop("on_progress")
    assert asked == {
        "run": Path("runs/lego"),
        "out": Path("lego.glb"),
        "method": None,
        "resolution": 256,
        "level": None,
        "crop": None,
        "least_piece": 0.0,
        "threads": None,
    }
    said = capsys.readouterr().out
    assert said == (
        "lego.glb: 1,200 vertices, 2,396 faces, 1 piece, watertight; level 35.96, 8.5 s\n"
    )


def test_wishes_are_handed_on(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    line = "mesh run --out a.ply --resolution 64 --level -0.5 --crop=-1,-1,-1,1,1,0.5 --threads 1"
    asked["report"] = {**REPORT, "watertight": False, "boundary_edges": 1234, "components": 2000}
    assert main.run([*line.split(), "--min-component", "0.01"]) == 0
    assert (asked["resolution"], asked["level"], asked["threads"]) == (64, -0.5, 1)
    assert asked["crop"] == [-1.0, -1.0, -1.0, 1.0, 1.0, 0.5]
    assert asked["least_piece"] == 0.01
    assert "2,000 pieces, 1,234 boundary edges, 0 non-manifold;" in capsys.readouterr().out
    asked["report"] = {**REPORT, "level": None}
    assert main.run(["mesh", "run", "--out", "a.ply", "--method", "dualmesh-udf"]) == 0
    assert asked["method"] == "dualmesh-udf"
    assert "watertight; 8.5 s\n" in capsys.readouterr().out


def test_json(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["mesh", "run", "--out", "a.ply", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == REPORT


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--level", "high"), "a finite number is needed, not 'high'"),
        (("--level", "nan"), "a finite number is needed, not 'nan'"),
        (("--crop", "0,0,0,1,1"), "six numbers are needed, as x,y,z,x,y,z, not '0,0,0,1,1'"),
        (("--min-component", "2"), "a number from 0 to 1 is needed, not '2'"),
        (("--resolution", "1"), "a whole number from 2 to 4096 is needed, not '1'"),
    ],
)
def test_nonsense_is_refused(
    asked: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    sentence: str,
) -> None:
    assert main.run(["mesh", "run", "--out", "a.ply", *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not asked
