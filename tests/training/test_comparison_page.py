"""The page of a comparison shows where fields are worst, and takes no more memory than that."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from polyfield.cli.compare import _lines
from polyfield.datasets.builtin import builtin_scene
from polyfield.datasets.formats import blender
from polyfield.fields import model_file
from polyfield.renderers.picture import draw_picture
from polyfield.renderers.registry import renderer_for
from polyfield.training import comparison_page
from polyfield.training.compare import compare
from polyfield.training.comparison_page import _Sight, _worst
from polyfield.training.evaluation import Window, draw_view

TINY = ("field.encoder.levels=2", "train.batch=256")
SMALL = ("train.samples=2048", "field.encoder.log2_table=12", "render.steps=64")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.linear_gradient("L").resize((64, 40)).convert("RGB").save(path)
    return path


def sight_of(error: torch.Tensor, drawn: list[int] | None = None) -> _Sight:
    """A black picture, and a field that has so much too much of everything."""

    def seen(window: Window) -> torch.Tensor:
        part = error[window]
        if drawn is not None:
            drawn.append(part.numel())
        return part[..., None].expand(-1, -1, 3)

    return _Sight(*error.shape, lambda window: torch.zeros(*error[window].shape, 3), {"a": seen})


def test_the_worst_square_holds_the_largest_error() -> None:
    error = torch.zeros(200, 320)
    error[150:160, 250:260] = 1.0
    y, x = _worst(sight_of(error))
    assert y.start <= 150 < 160 <= y.stop <= 200
    assert x.start <= 250 < 260 <= x.stop <= 320
    assert y.stop - y.start == x.stop - x.start
    assert _worst(sight_of(torch.ones(5, 9))) == (slice(0, 5), slice(0, 5))


def test_the_worst_square_is_found_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    error = torch.rand(211, 330, generator=torch.Generator().manual_seed(0)) ** 8
    at_once = _worst(sight_of(error))
    drawn: list[int] = []
    monkeypatch.setattr(comparison_page, "_BAND", 4000)
    assert _worst(sight_of(error, drawn)) == at_once
    assert max(drawn) <= 4000
    monkeypatch.setattr(comparison_page, "_MOST", 16)  # of a large picture no larger part is shown
    y, x = _worst(sight_of(error))
    assert (y.stop - y.start, x.stop - x.start) == (16, 16)


def test_an_image_is_never_drawn_whole(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the search for the worst part nor the parts that are shown need more than fits."""
    for name, pixels in (
        ("comparison_page._BAND", 640),
        ("fit_image._BAND", 640),
        ("comparison_page._MOST", 24),
        ("comparison_page._LEAST", 24),
    ):
        monkeypatch.setattr(f"polyfield.training.{name}", pixels)
    monkeypatch.setattr("polyfield.renderers.picture._MOST", 1000)  # the image has 2560
    done = compare(image, fields=["hashgrid"], out=tmp_path / "c", steps=3, changes=TINY)
    assert done.page.read_text().count("data:image/png;base64,") == 3


def test_a_part_of_a_picture_is_cut_out_of_the_whole(image: Path, tmp_path: Path) -> None:
    compare(image, fields=["hashgrid"], out=tmp_path / "c", steps=3, changes=TINY)
    model = model_file.load(tmp_path / "c/hashgrid")
    whole, part = draw_picture(model, 30, 20), (slice(3, 9), slice(7, 30))
    # Products of matrices of other sizes may be summed in another order.
    torch.testing.assert_close(draw_picture(model, 30, 20, *part), whole[part], rtol=0, atol=1e-5)


def test_what_has_no_test_views_is_compared_on_a_training_view(tmp_path: Path) -> None:
    scene = builtin_scene(views=9, size=24)
    folder = tmp_path / "scene"
    blender.write(scene, folder)
    (folder / "transforms_test.json").unlink()
    settings: dict[str, Any] = {"fields": ["hashgrid"], "out": tmp_path / "c", "changes": SMALL}
    done = compare(folder, steps=2, **settings)
    (row,) = done.rows
    assert row["steps"] == 2
    assert row["parameters"] > 0
    assert not {"psnr", "ssim"} & row.keys()
    assert json.loads((tmp_path / "c/comparison.json").read_text()) == done.rows
    page = done.page.read_text()
    assert "<td>hashgrid</td><td>-</td><td>-</td><td>" in page
    assert "No view is held out" in page
    assert page.count("data:image/png;base64,") == 3
    assert "PSNR" not in _lines(done.rows)[0]
    again = compare(folder, resume=True, **settings).rows[0]
    assert (again["steps"], again["stored_values"]) == (2, row["stored_values"])

    model = model_file.load(tmp_path / "c/hashgrid")
    drawing = renderer_for(model), scene.cameras, 1, model.background
    whole, part = draw_view(*drawing).color.view(24, 24, 3), (slice(3, 9), slice(7, 20))
    cut = draw_view(*drawing, part).color.view(6, 13, 3)
    torch.testing.assert_close(cut, whole[part], rtol=0, atol=1e-5)  # as above
