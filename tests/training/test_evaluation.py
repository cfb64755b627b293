"""Evaluation of views that are unlike others: right to the last bit, or ignored by their masks."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from polyfield.datasets.builtin import builtin_scene
from polyfield.errors import InputError
from polyfield.renderers.rendered import Rendered
from polyfield.training import evaluation

SIZE = 16


class Flat:
    """Draws 0.5 everywhere."""

    def render_rays(self, origins: Tensor, directions: Tensor, background: Tensor) -> Rendered:
        ones = torch.ones(len(origins))
        return Rendered(torch.full((len(origins), 3), 0.5), ones, ones, len(origins))


class Pictures:
    """Grey pictures with weights, one value of each a view."""

    def __init__(self, greys: list[float], kept: list[Tensor]) -> None:
        self.greys, self.kept = greys, kept
        self.sizes = torch.full((len(greys), 2), SIZE)

    def image(self, view: int) -> Tensor:
        return torch.full((SIZE, SIZE, 4), self.greys[view]).index_fill(2, torch.tensor(3), 1.0)

    def weights(self, views: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return self.kept[int(views[0])][y, x]


def evaluated(monkeypatch: Any, greys: list[float], kept: list[Tensor]) -> dict[str, Any]:
    scene = builtin_scene(views=len(greys), size=SIZE)
    scene = replace(scene, images=Pictures(greys, kept), split={"test": tuple(range(len(greys)))})
    monkeypatch.setattr(evaluation, "renderer_for", lambda _: Flat())
    return evaluation.evaluate_model(SimpleNamespace(background=(0, 0, 0)), scene)  # type: ignore[arg-type]


ALL, NONE = torch.ones(SIZE, SIZE), torch.zeros(SIZE, SIZE)


def test_a_view_that_is_ignored_is_left_out(monkeypatch):
    result = evaluated(monkeypatch, [0.4, 0.0, 0.3], [ALL, NONE, ALL])
    assert [round(view["psnr"], 3) for view in result["per_view"]] == [20.0, 13.979]
    assert result["views"] == 2


def test_pixels_that_are_ignored_change_no_psnr(monkeypatch):
    half = ALL.clone()
    half[:5] = 0
    result = evaluated(monkeypatch, [0.4, 0.4], [ALL, half])
    one, other = (view["psnr"] for view in result["per_view"])
    assert other == pytest.approx(one, abs=1e-4)


def test_a_view_that_is_right_to_the_last_bit_leaves_the_mean_finite(monkeypatch):
    result = evaluated(monkeypatch, [0.5, 0.4], [ALL, ALL])
    assert result["per_view"][0]["psnr"] == 100.0
    assert math.isfinite(result["psnr"])


def test_nothing_left_to_measure_is_a_sentence(monkeypatch):
    with pytest.raises(InputError, match="ignore every pixel of its test views"):
        evaluated(monkeypatch, [0.5, 0.4], [NONE, NONE])
