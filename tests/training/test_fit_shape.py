"""Fitting meshes end to end, on shapes whose inside is known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyfield.datasets.surface_samples import ShapeSamples
from polyfield.errors import DataError, InputError
from polyfield.fields import model_file
from polyfield.fields.presets import preset_names
from polyfield.training import shape_fit
from polyfield.training.api import evaluate
from polyfield.training.fit import fit
from polyfield.training.loop import Control
from polyfield.training.rendering import render

SMALL = (
    *("field.encoder.levels=4", "field.encoder.log2_table=13"),
    *("field.encoder.base=16", "field.encoder.finest=32"),
    "train.batch=4096",
)


@pytest.fixture(autouse=True)
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"_UNIFORM": 1 << 14, "_NEAR": 1 << 12, "_NORMALS": 1 << 10, "_POOL": 1 << 15}
    for name, count in counts.items():
        monkeypatch.setattr(shape_fit, name, count)


@pytest.fixture(scope="module")
def ball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sphere of 16 x 32 quads around (5, 0, 0)."""
    rings, around = 16, 32
    lat, lon = np.pi * np.arange(rings + 1) / rings, 2 * np.pi * np.arange(around) / around
    points = [
        (5 + np.sin(a) * np.cos(b), np.sin(a) * np.sin(b), np.cos(a)) for a in lat for b in lon
    ]
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in points]
    for ring in range(rings):
        for i in range(around):
            a, b = ring * around + i, ring * around + (i + 1) % around
            lines.append(f"f {a + 1} {a + around + 1} {b + around + 1} {b + 1}")
    path = tmp_path_factory.mktemp("ball") / "ball.obj"
    path.write_text("\n".join(lines) + "\n")
    return path


def inside_out(mesh: Path, folder: Path) -> Path:
    """The same with the corners of its faces in reverse."""
    path = folder / "inside_out.obj"
    lines = (line.split() for line in mesh.read_text().splitlines())
    turned = (words[:1] + words[:0:-1] if words[0] == "f" else words for words in lines)
    path.write_text("".join(" ".join(words) + "\n" for words in turned))
    return path


def short(mesh: Path, out: Path, **options: Any) -> Any:
    return fit(mesh, out=out, **{"steps": 40, "changes": SMALL, **options})


def test_a_mesh_becomes_a_distance(ball: Path, tmp_path: Path) -> None:
    result = short(ball, tmp_path / "run", steps=250)
    metrics = result.metrics
    assert metrics["fit"] == "sdf"
    # 0.98 is an error of 0.7 % of the radius.
    assert metrics["iou"] > 0.98
    assert metrics["normal_error"] < 40.0  # 90 is chance; a grid that has seen few points is rough
    model = model_file.load(tmp_path / "run")
    assert model.kind == "sdf"
    assert model.config["domain"]["center"] == pytest.approx([5.0, 0.0, 0.0], abs=1e-5)
    unit = (torch.tensor([[0.9, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]) + 1) / 2
    near, at, middle = model.module(unit)[:, 0].tolist()
    # Most points are near the surface; the middle is known roughly.
    assert (near, at) == (pytest.approx(-0.09, abs=0.04), pytest.approx(0.01, abs=0.04))
    assert -1.3 < middle < -0.4
    assert evaluate(tmp_path / "run")["iou"] == metrics["iou"]


def test_a_mesh_turned_inside_out_is_the_same_body(ball: Path, tmp_path: Path) -> None:
    turned = inside_out(ball, tmp_path)
    metrics = short(turned, tmp_path / "run", steps=250).metrics
    assert metrics["iou"] > 0.98
    assert metrics["normal_error"] < 40.0  # by the faces' own normals: above 140


def moved(mesh: Path, out: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """A copy with other vertices."""
    lines = [line.split() for line in mesh.read_text().splitlines()]
    for words in lines:
        if words[0] == "v":
            words[1:] = [repr(float(x)) for x in change(np.array(words[1:], dtype=float))]
    out.write_text("".join(" ".join(words) + "\n" for words in lines))
    return out


@pytest.mark.parametrize("kind", ["sdf", "occupancy"])
def test_another_mesh_is_compared_where_the_field_is(ball: Path, tmp_path: Path, kind: str) -> None:
    own = short(ball, tmp_path / "run", kind=kind, steps=250).metrics["iou"]
    middle = np.array([5.0, 0.0, 0.0])
    small = moved(ball, tmp_path / "small.obj", lambda at: middle + 0.8 * (at - middle))
    aside = moved(ball, tmp_path / "aside.obj", lambda at: middle + 0.8 * (at - middle) + 0.15)
    half = moved(ball, tmp_path / "half.obj", lambda at: np.minimum(at, [5.0, 9.0, 9.0]))
    for mesh, share in ((small, 0.8**3), (aside, 0.8**3), (half, 0.5)):
        seen = evaluate(tmp_path / "run", scene=mesh)
        # All of it lies in the ball. Of 2^14 points in the cube half fall into the ball: two in a hundred are five
        # standard errors, and the field itself is as far off as it is from the ball.
        assert seen["iou"] == pytest.approx(share, abs=0.02 + 1.0 - own)
        assert seen["scene"] == mesh.name
    again = moved(ball, tmp_path / "again.obj", lambda at: at)  # another file, the same mesh
    assert evaluate(tmp_path / "run", scene=again)["iou"] == own


def test_a_mesh_beyond_the_fields_cube_is_refused(ball: Path, tmp_path: Path) -> None:
    short(ball, tmp_path / "run", steps=2)
    far = moved(ball, tmp_path / "far.obj", lambda at: at + np.array([0.0, 0.0, 1.0]))
    message = (
        r"far.obj leaves the cube .*: from \(5, 0, 0\) that is 1\.01 to each side, but .* reaches 2"
    )
    with pytest.raises(InputError, match=message):
        evaluate(tmp_path / "run", scene=far)


def test_a_mesh_becomes_an_occupancy(ball: Path, tmp_path: Path) -> None:
    result = short(ball, tmp_path / "run", kind="occupancy", steps=200)
    assert result.metrics["iou"] > 0.95
    assert (
        result.metrics["normal_error"] < 60.0
    )  # it grows inwards: 90 and more would be the other way around


def test_a_resumed_fit_ends_with_the_same_bits(ball: Path, tmp_path: Path) -> None:
    short(ball, tmp_path / "whole")
    control = Control()
    control.stop.set()
    short(ball, tmp_path / "cut", control=control)
    fit(None, out=tmp_path / "cut", resume=True)
    one, other = (model_file.load(tmp_path / name).module.state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_long_run_sees_other_points() -> None:
    drawn: list[int] = []

    def numbered(count: int, generator: torch.Generator) -> ShapeSamples:
        """Samples that say which pool they are of."""
        drawn.append(generator.initial_seed())
        return ShapeSamples(torch.zeros(count, 3), torch.full((count,), float(len(drawn))))

    def pools_of(batches: shape_fit.ShapeBatches, step: int) -> set[float]:
        chance = torch.Generator().manual_seed(0)
        return {batches.next(step, 1 << 12, chance)[1].unique().item() for _ in range(64)}

    batches = shape_fit.ShapeBatches(numbered)
    assert pools_of(batches, 63) == {1.0}  # 2^12 points a step, eight times 2^15 in a pool
    assert pools_of(batches, 64) == {1.0, 2.0}
    assert pools_of(batches, 191) == {1.0, 2.0, 3.0}
    assert pools_of(batches, 10**6) == set(range(1, 9))
    assert len(set(drawn)) == 8
    first, drawn = drawn, []
    assert pools_of(shape_fit.ShapeBatches(numbered), 10**6) == set(range(1, 9))
    assert drawn == first  # a run that goes on late has the same pools


@pytest.mark.parametrize(
    ("kind", "name"), [(k, name) for k in ("sdf", "occupancy") for name in preset_names(k)]
)
def test_every_preset_fits(ball: Path, tmp_path: Path, kind: str, name: str) -> None:
    few = ["train.batch=512"]
    result = fit(ball, kind=kind, out=tmp_path / "run", field=name, steps=2, changes=few)
    assert np.isfinite(result.metrics["normal_error"])


def test_what_cannot_be_fitted_is_told(ball: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.obj").write_text("v 0 0 0\n")
    with pytest.raises(DataError, match="no faces"):
        short(tmp_path / "empty.obj", tmp_path / "run")
    (tmp_path / "nan.obj").write_text("v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(DataError, match=r"nan\.obj"):
        short(tmp_path / "nan.obj", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    short(ball, tmp_path / "run", steps=2)
    with pytest.raises(InputError, match="name a folder for pictures"):
        render(tmp_path / "run", out=tmp_path / "a.png")
    with pytest.raises(InputError, match="Along which path"):
        render(tmp_path / "run", out=tmp_path / "frames")


def test_a_real_mesh(data_dir: Path, tmp_path: Path) -> None:
    result = short(data_dir / "meshes" / "spot.obj", tmp_path / "run", steps=150)
    assert result.metrics["iou"] > 0.95
