"""Fitting unsigned distances end to end: surfaces that end and that meet, and their meshes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_distance import MeshDistance
from polyfield.datasets.mesh_file import read_mesh
from polyfield.errors import InputError
from polyfield.fields import model_file
from polyfield.fields.presets import preset_names
from polyfield.training import shape_fit
from polyfield.training.api import evaluate
from polyfield.training.extraction import extract_mesh
from polyfield.training.fit import fit

SMALL = (
    *("field.encoder.levels=6", "field.encoder.log2_table=14"),
    *("field.encoder.base=8", "field.encoder.finest=64"),
    "train.batch=4096",
)


@pytest.fixture(autouse=True, scope="module")
def few_points() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name, count in {"_UNIFORM": 1 << 14, "_NEAR": 1 << 12, "_POOL": 1 << 16}.items():
            patch.setattr(shape_fit, name, count)
        yield


@pytest.fixture(scope="module")
def fins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two unit squares that cross in the line y = z = 0, around (4, 0, 0)."""
    lines = []
    for a, b in ((0.5, 0.0), (0.0, 0.5)):
        lines += [
            f"v {4 + x} {a * s} {b * s}" for x, s in ((-0.5, -1), (0.5, -1), (0.5, 1), (-0.5, 1))
        ]
    lines += ["f 1 2 3", "f 1 3 4", "f 5 6 7", "f 5 7 8"]
    path = tmp_path_factory.mktemp("fins") / "fins.obj"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def run(fins: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    fit(fins, kind="udf", out=out, steps=600, changes=SMALL)
    return out


def test_a_surface_without_inside_becomes_a_distance(run: Path) -> None:
    model = model_file.load(run)
    assert model.kind == "udf"
    points = torch.rand(4096, 3)
    with torch.no_grad():
        values = model.module(points)[:, 0]
    assert bool((values >= 0).all())
    metrics = evaluate(run)
    # The finest cells are 1/32 of the cube's half side; a distance in the middle of one is off by a few hundredths of
    # that where the field follows the kink.
    assert metrics["error_near"] < 0.003
    assert metrics["error_on"] < 0.003
    assert metrics["error"] < 0.1  # one point in eight is drawn there


def test_its_mesh_has_the_sheets_and_where_they_meet(run: Path, fins: Path, tmp_path: Path) -> None:
    report = extract_mesh(run, out=tmp_path / "fins.ply", resolution=32)
    assert report["method"] == "dualmesh-udf"
    assert report["level"] is None
    mesh = read_mesh(tmp_path / "fins.ply")
    # A reader drops faces without area: two vertices of different cells may round to one place.
    assert 0.999 * report["faces"] <= len(mesh.faces) <= report["faces"]
    truth = MeshDistance(read_mesh(fins))
    cell = 2 / 32 / model_file.load(run).config["domain"]["scale"]
    assert float(truth.unsigned(mesh.vertices).distance.mean()) < 0.1 * cell
    seen = truth.mesh
    middle = seen.vertices[seen.faces].mean(1)
    assert float(MeshDistance(mesh).unsigned(middle).distance.max()) < 0.25 * cell
    assert (
        report["boundary_edges"] > 4 * 10
    )  # eight rims of about sixteen cells, some of them ragged
    assert not report["watertight"]
    metrics = evaluate(run)
    assert metrics["accuracy"] < 0.01
    assert metrics["completeness"] < 0.01


def test_a_signed_distance_can_be_meshed_as_one_without_sign(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    trimesh.creation.icosphere(subdivisions=4).export(tmp_path / "ball.ply")
    fit(tmp_path / "ball.ply", kind="sdf", out=tmp_path / "run", steps=300, changes=SMALL)
    wishes: dict[str, Any] = {"resolution": 32, "least_piece": 0.5}
    cut = extract_mesh(tmp_path / "run", out=tmp_path / "cut.ply", **wishes)
    dual = extract_mesh(
        tmp_path / "run", out=tmp_path / "dual.ply", method="dualmesh-udf", **wishes
    )
    assert (cut["method"], dual["method"]) == ("marching-cubes", "dualmesh-udf")
    assert dual["area"] == pytest.approx(cut["area"], rel=0.02)
    assert dual["components"] == cut["components"] == 1


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [
        ({"method": "marching-cubes"}, "take --method dualmesh-udf"),
        ({"method": "dualmesh"}, "no --method 'dualmesh'. Did you mean 'dualmesh-udf'"),
        ({"level": 0.1}, "--level belongs to marching cubes"),
        ({"crop": (0, 0, 0, 1, 1, 1)}, "--crop belongs to marching cubes"),
        ({"resolution": 100}, "8, 16, 32, ... or 2048 cells along a side, but --resolution is 100"),
        ({"resolution": 4096}, "but --resolution is 4096"),
        ({"resolution": 4}, "but --resolution is 4"),
    ],
)
def test_what_cannot_be_is_told(
    run: Path, tmp_path: Path, wishes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError) as told:
        extract_mesh(run, out=tmp_path / "a.ply", **wishes)
    assert sentence in str(told.value)
    assert not (tmp_path / "a.ply").exists()


def test_a_field_that_has_learnt_nothing_is_told(fins: Path, tmp_path: Path) -> None:
    metrics = fit(fins, kind="udf", out=tmp_path / "run", steps=2, changes=SMALL).metrics
    assert "accuracy" not in metrics
    with pytest.raises(InputError, match="has not learnt a distance"):
        extract_mesh(tmp_path / "run", out=tmp_path / "a.ply")


def test_occupancy_has_no_distance(fins: Path, tmp_path: Path) -> None:
    fit(fins, kind="occupancy", out=tmp_path / "run", steps=2, changes=("train.batch=512",))
    with pytest.raises(InputError, match="needs distances, which a field of kind 'occupancy'"):
        extract_mesh(tmp_path / "run", out=tmp_path / "a.ply", method="dualmesh-udf")


@pytest.mark.parametrize("name", preset_names("udf"))
def test_every_preset_fits(fins: Path, tmp_path: Path, name: str) -> None:
    result = fit(
        fins, kind="udf", out=tmp_path / "run", field=name, steps=2, changes=["train.batch=512"]
    )
    assert np.isfinite(result.metrics["error_near"])


def test_a_real_garment(data_dir: Path, tmp_path: Path) -> None:
    """An open mesh of several layers, in a run of seconds: nearer to it than a quarter of a cell."""
    shirt = data_dir / "meshes" / "tshirt.obj"
    fit(shirt, kind="udf", out=tmp_path / "run", steps=400, changes=("train.batch=4096",))
    report = extract_mesh(tmp_path / "run", out=tmp_path / "shirt.ply", resolution=64)
    truth, placement = read_mesh(shirt).placed_within()
    mesh = read_mesh(tmp_path / "shirt.ply")
    placed = Mesh(placement(mesh.vertices), mesh.faces)
    cell = 2 / 64
    assert float(MeshDistance(truth).unsigned(placed.vertices).distance.mean()) < 0.25 * cell
    assert float(MeshDistance(placed).unsigned(truth.vertices).distance.mean()) < 0.25 * cell
    assert not report["watertight"]
