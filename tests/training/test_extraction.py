"""Meshing runs end to end: files, frames, reports, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from polyfield.datasets.mesh_file import read_mesh
from polyfield.errors import InputError
from polyfield.fields import model_file
from polyfield.fields.model import build_model
from polyfield.fields.presets import preset
from polyfield.training import shape_fit
from polyfield.training.api import train
from polyfield.training.extraction import extract_mesh
from polyfield.training.fit import fit

SMALL = (
    *("field.encoder.levels=4", "field.encoder.log2_table=13"),
    *("field.encoder.base=16", "field.encoder.finest=32"),
    "train.batch=4096",
)


@pytest.fixture(scope="module")
def scene_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in scene, after so few steps that it is a mass of about its shape."""
    run = tmp_path_factory.mktemp("scene") / "run"
    train("builtin", out=run, steps=150, downscale=4, changes=("train.samples=16384",))
    return run


@pytest.fixture(scope="module")
def ball_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The signed distance to a ball of radius 3 around (50, 0, -20)."""
    trimesh = pytest.importorskip("trimesh")
    folder = tmp_path_factory.mktemp("ball")
    ball = trimesh.creation.icosphere(subdivisions=4, radius=3.0)
    ball.apply_translation([50.0, 0.0, -20.0])
    ball.export(folder / "ball.ply")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_UNIFORM", "_NEAR", "_NORMALS"):
            patch.setattr(shape_fit, name, 1 << 12)
        patch.setattr(shape_fit, "_POOL", 1 << 15)
        fit(folder / "ball.ply", kind="sdf", out=folder / "run", steps=250, changes=SMALL)
    return folder / "run"


@pytest.mark.parametrize("suffix", ["ply", "obj", "glb"])
def test_a_distance_becomes_a_mesh_where_the_data_was(
    ball_run: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"ball.{suffix}"
    report = extract_mesh(ball_run, out=out, resolution=64, least_piece=0.5)
    mesh = read_mesh(out)
    assert len(mesh.faces) == report["faces"]
    assert mesh.edges.watertight
    assert report["watertight"]
    assert (report["components"], report["euler"]) == (1, 2)
    away = (mesh.vertices - torch.tensor([50.0, 0.0, -20.0], dtype=torch.float64)).norm(dim=1)
    # As wrong as a grid of 32^3 cells of 0.19 is that has seen a million points.
    assert float((away - 3.0).abs().mean()) < 0.05
    assert report["volume"] == pytest.approx(113.1, rel=0.05)
    assert json.loads((tmp_path / f"ball.{suffix}.json").read_text()) == report
    assert report["queries"] == 65**3


def test_a_crop_is_told_as_the_data_has_it(ball_run: Path, tmp_path: Path) -> None:
    crop = (50.0, -4.0, -24.0, 54.0, 4.0, -16.0)
    report = extract_mesh(ball_run, out=tmp_path / "half.ply", resolution=48, crop=crop)
    mesh = read_mesh(tmp_path / "half.ply")
    assert float(mesh.vertices[:, 0].min()) == pytest.approx(50.0, abs=1e-4)
    assert report["boundary_edges"] > 20
    assert report["volume"] is None


def test_a_scene_becomes_a_mesh_in_its_colours(scene_run: Path, tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    report = extract_mesh(scene_run, out=tmp_path / "scene.ply", resolution=64)
    assert report["level"] > 0
    low, high = torch.tensor(report["low"]), torch.tensor(report["high"])
    assert bool((low > -1.3).all() and (high < 1.3).all())  # the solids lie in [-1, 1]^3
    assert report["queries"] < 65**3  # empty cells are not asked
    colors = trimesh.load(tmp_path / "scene.ply", process=False).visual.vertex_colors[:, :3]
    assert len(colors) == report["vertices"]
    assert colors.std(0).min() > 5  # of 255: the solids differ


def test_the_chosen_level_is_the_same_each_time(scene_run: Path, tmp_path: Path) -> None:
    one, other = (
        extract_mesh(scene_run, out=tmp_path / f"{n}.ply", resolution=32, threads=n) for n in (1, 2)
    )
    same = ("vertices", "faces", "area", "low", "high")
    assert [one[name] for name in same] == [other[name] for name in same]
    assert one["level"] == pytest.approx(other["level"])


def test_a_bare_file_is_enough(scene_run: Path, tmp_path: Path) -> None:
    field = tmp_path / "bare.safetensors"
    field.write_bytes((scene_run / "field.safetensors").read_bytes())
    assert extract_mesh(field, out=tmp_path / "a.glb", resolution=16)["faces"] > 0


def test_what_has_no_surface_is_refused(ball_run: Path, scene_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "none.ply"
    with pytest.raises(InputError, match="no surface at the level 1000"):
        extract_mesh(ball_run, out=out, resolution=16, level=1000.0)
    with pytest.raises(InputError, match=r"\.ply, \.obj or \.glb"):
        extract_mesh(ball_run, out=tmp_path / "mesh.stl")
    with pytest.raises(InputError, match="six finite numbers"):
        extract_mesh(ball_run, out=out, crop=(0.0, 0.0, 0.0, 1.0, 1.0, -1.0))
    with pytest.raises(InputError, match="resolution"):
        extract_mesh(ball_run, out=out, resolution=1)
    assert not list(tmp_path.iterdir())


def test_an_image_has_no_surface(tmp_path: Path) -> None:
    config = {"field": preset("hashgrid", "image")["field"]}
    model = build_model("image", {**config, "domain": {"width": 8, "height": 8, "channels": 3}})
    model_file.save(model, tmp_path / "field.safetensors")
    with pytest.raises(InputError, match="no surface in a field of kind 'image'"):
        extract_mesh(tmp_path / "field.safetensors", out=tmp_path / "mesh.ply")
