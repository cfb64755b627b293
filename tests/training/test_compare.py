"""Comparing fields: all alike, on one page, and nothing done twice or lost."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from polyfield.cli.compare import _lines
from polyfield.errors import ConfigError, InputError, RunError
from polyfield.training import compare as module
from polyfield.training.compare import compare
from polyfield.training.fit import KINDS, fit
from polyfield.training.loop import Control

TINY = ("field.encoder.levels=2", "train.batch=256")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.linear_gradient("L").resize((64, 40)).convert("RGB").save(path)
    return path


def test_fields_are_compared_on_one_page(image: Path, tmp_path: Path) -> None:
    done = compare(image, fields=["hashgrid"], out=tmp_path / "c", steps=20, changes=TINY)
    (row,) = done.rows
    metrics = json.loads((tmp_path / "c/hashgrid/metrics.json").read_text())
    shared = row.keys() & metrics.keys()
    assert {"psnr", "ssim", "parameters", "stored_values", "bytes", "steps"} <= shared
    assert all(row[key] == metrics[key] for key in shared)
    assert json.loads((tmp_path / "c/comparison.json").read_text()) == done.rows
    page = done.page.read_text()
    assert f"{row['psnr']:.2f}" in page
    assert page.count("data:image/png;base64,") == 3  # the truth, the field, its error
    assert "http" not in page.replace("http://www.w3.org", "")


def test_resuming_keeps_what_is_done(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"fields": ["hashgrid"], "out": tmp_path / "c", "changes": TINY}
    first = compare(image, steps=20, **settings)
    with pytest.raises(InputError, match="not empty"):
        compare(image, steps=20, **settings)
    monkeypatch.setattr(module, "fit", None)  # must not be called
    assert compare(image, steps=20, resume=True, **settings).rows == first.rows


def test_an_interrupted_comparison_says_so_and_goes_on(image: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"fields": ["hashgrid"], "out": tmp_path / "c", "changes": TINY}
    control = Control()
    control.stop.set()
    stopped = compare(image, steps=20, control=control, **settings)
    assert (stopped.rows, stopped.interrupted) == ([], True)
    assert not stopped.page.exists()
    assert compare(image, resume=True, **settings).rows[0]["steps"] == 20


def test_only_what_was_begun_alike_goes_on(image: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"out": tmp_path / "c", "changes": TINY, "resume": True}
    compare(image, fields=["hashgrid"], steps=3, **{**settings, "resume": False})
    before = (tmp_path / "c/comparison.json").read_bytes()
    other = tmp_path / "other.png"
    Image.new("RGB", (64, 40)).save(other)
    copy = tmp_path / "copy.png"
    copy.write_bytes(image.read_bytes())
    for wrong, reason in (
        ({"source": other}, "is a run of something else than .*other.png --as image"),
        ({"source": "builtin"}, "is a run of something else than builtin"),
        (
            {"kind": "sphere", "fields": ["hashgrid"]},
            "is a run of something else than .*image.png --as sphere",
        ),
        ({"seed": 1}, "has seed 0 and a plan of 3 steps, which is not what is asked for"),
        ({"steps": 4}, "a plan of 3 steps"),
        ({"budget": 9.0}, "a plan of 3 steps"),
        ({"changes": TINY[:1]}, "was begun with train.batch=256, but now that is 16384; give"),
        ({"changes": (*TINY, "field.encoder.levels=3")}, "field.encoder.levels=2, but .* 3;"),
    ):
        given = {"source": image, "fields": ["hashgrid", "rbfnet"], **settings, **wrong}
        with pytest.raises(InputError, match=reason):
            compare(given.pop("source"), **given)
    assert (tmp_path / "c/comparison.json").read_bytes() == before
    assert not (tmp_path / "c/rbfnet").exists()
    # A field that joins later is trained as long as the others were.
    rows = compare(copy, fields=["hashgrid", "rbfnet"], **settings).rows
    assert [row["steps"] for row in rows] == [3, 3]


@pytest.mark.parametrize(("key", "value"), [("budget", "long"), ("steps", 2.5), ("steps", [3])])
def test_a_length_that_is_none_is_refused_before_a_field_joins(
    image: Path, tmp_path: Path, key: str, value: object
) -> None:
    out = tmp_path / "c"
    compare(image, fields=["hashgrid"], out=out, steps=3, changes=TINY)
    config = json.loads((out / "hashgrid/config.json").read_text())
    lengths = {"steps": None, "budget": None, key: value}
    (out / "hashgrid/config.json").write_text(json.dumps(config | lengths))
    for wished in ({}, {"steps": 3}):
        with pytest.raises(InputError, match=rf"{key} in .*config\.json must be"):
            compare(image, fields=["hashgrid", "rbfnet"], out=out, resume=True, **wished)


def test_what_was_measured_is_measured_again_where_it_was_spoilt(
    image: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"fields": ["hashgrid"], "out": tmp_path / "c", "changes": TINY}
    first = compare(image, steps=3, **settings)
    for spoilt in ("[1]", "{}", '{"steps": "three"}'):
        (tmp_path / "c/hashgrid/metrics.json").write_text(spoilt)
        assert compare(image, resume=True, **settings).rows[0]["psnr"] == first.rows[0]["psnr"]


def test_a_field_that_took_no_step_has_failed(image: Path, tmp_path: Path) -> None:
    done = compare(image, fields=["hashgrid"], out=tmp_path / "c", budget=1e-9, changes=TINY)
    assert "over before the first step" in done.rows[0]["failed"]
    assert json.loads((tmp_path / "c/comparison.json").read_text()) == done.rows


def test_a_run_that_fails_does_not_stop_the_others(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RunError("Training stopped at step 3.")

    monkeypatch.setattr(module, "fit", fail)
    done = compare(image, fields=["hashgrid"], out=tmp_path / "c", steps=20)
    assert done.rows == [{"field": "hashgrid", "failed": "Training stopped at step 3."}]


def test_what_only_a_later_run_finds_out_costs_no_other(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: Path, *, field: str, **settings: Any) -> Any:
        if field == "rbfnet":
            raise ConfigError("The parts do not fit.")
        return fit(file, field=field, **settings)

    monkeypatch.setattr(module, "fit", fail)
    given: dict[str, Any] = {"steps": 3, "changes": ("train.batch=256",)}
    done = compare(image, fields=["hashgrid", "rbfnet"], out=tmp_path / "c", **given)
    assert done.rows[0]["steps"] == 3
    assert done.rows[1] == {"field": "rbfnet", "failed": "The parts do not fit."}
    assert "The parts do not fit." in done.page.read_text()
    assert json.loads((tmp_path / "c/comparison.json").read_text()) == done.rows
    with pytest.raises(ConfigError, match="The parts do not fit"):
        compare(image, fields=["rbfnet", "hashgrid"], out=tmp_path / "d", **given)
    assert not (tmp_path / "d").exists()


def test_posed_images_are_compared_on_a_view(tmp_path: Path) -> None:
    changes = ("train.samples=2048", "field.encoder.log2_table=12", "render.steps=64")
    done = compare(
        "builtin",
        fields=["hashgrid"],
        out=tmp_path / "c",
        steps=3,
        downscale=8,
        changes=changes,
    )
    assert [row["field"] for row in done.rows] == ["hashgrid"]
    assert done.page.read_text().count("data:image/png;base64,") == 3
    settings: dict[str, Any] = {
        "fields": ["hashgrid"],
        "out": tmp_path / "c",
        "downscale": 8,
        "resume": True,
    }
    with pytest.raises(InputError, match=r"begun with render\.steps=64, but now that is 32"):
        compare("builtin", changes=(*changes, "render.steps=32"), **settings)
    assert compare("builtin", changes=changes, **settings).rows == done.rows
    file = tmp_path / "c/hashgrid/config.json"
    config = json.loads(file.read_text())
    for model in (5, {"render": 5}):  # nothing there says otherwise, and what is done is kept
        file.write_text(json.dumps(config | {"model": model}))
        assert compare("builtin", changes=changes, **settings).rows == done.rows
    file.write_text(json.dumps(config | {"model": {"render": {"steps": 64}}}))
    with pytest.raises(InputError, match="hashgrid: render lacks the key"):
        compare("builtin", changes=changes, **settings)


def test_meshes_are_compared_without_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_UNIFORM", "_NEAR", "_NORMALS"):
        monkeypatch.setattr(f"polyfield.training.shape_fit.{name}", 1 << 10)
    monkeypatch.setattr("polyfield.training.shape_fit._POOL", 1 << 10)
    mesh = tmp_path / "wedge.obj"
    mesh.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 3 1 4\n")
    done = compare(mesh, fields=["hashgrid"], out=tmp_path / "c", steps=3)
    page = done.page.read_text()
    assert f"{done.rows[0]['iou']:.5f}" in page
    assert "data:image/png" not in page
    assert "IoU near" in _lines(done.rows)[0]


def test_wrong_wishes_are_refused_before_anything_is_trained(image: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    with pytest.raises(ConfigError, match="no field preset 'hashgrit'"):
        compare(image, fields=["hashgrid", "hashgrit"], out=out)
    with pytest.raises(InputError, match="compared once"):
        compare(image, fields=["hashgrid", "hashgrid"], out=out)
    with pytest.raises(InputError, match="Name the fields"):
        compare(image, fields=[], out=out)
    with pytest.raises(InputError, match="nothing to fit --as 'sculpture'"):
        compare(image, fields=["hashgrid"], out=out, kind="sculpture")
    with pytest.raises(InputError, match="--downscale reduces posed images"):
        compare(image, fields=["hashgrid"], out=out, downscale=2)
    # The first field has such a key, the second one has not.
    with pytest.raises(ConfigError, match=r"nerf: .*has no key 'levels'"):
        compare(image, fields=["hashgrid", "nerf"], out=out, changes=TINY)
    with pytest.raises(ConfigError, match=r"nerf: .*has no key 'levels'"):
        compare("builtin", fields=["hashgrid", "nerf"], out=out, changes=TINY[:1])
    # The first field can be built or trained so, the second one cannot.
    with pytest.raises(ConfigError, match=r"tensorf: .* 8"):
        compare("builtin", fields=["hashgrid", "tensorf"], out=out, changes=["field.features=8"])
    with pytest.raises(ConfigError, match=r"cam-ray: .*train\.roulette must be 1, but is 0\.5"):
        compare("builtin", fields=["cam", "cam-ray"], out=out, changes=["train.roulette=0.5"])
    assert not out.exists()


def test_a_field_that_does_not_fit_into_memory_is_refused_before_any_is_trained(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyfield.training.memory.free_memory", lambda: 8_000_000)
    with pytest.raises(InputError, match=r"neurbf: To train this field's .* GB are free"):
        compare(image, fields=["nerf", "neurbf"], out=tmp_path / "c", steps=3)


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_every_kind_is_looked_at_before_it_is_trained(kind: str | None, tmp_path: Path) -> None:
    """All of them are, so that it is the file that is missed."""
    with pytest.raises(InputError, match=r"[Nn]o (such )?(scene|image|mesh|file|folder)"):
        compare(tmp_path / "none.obj", fields=["hashgrid"], out=tmp_path / "c", kind=kind)
