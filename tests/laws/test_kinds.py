"""A new kind of model is drawn, evaluated and filed by registering it; nothing else knows its name.

A new kind of fit is a module, a folder of presets and its name in one tuple and one choice of the command line.
"""

import argparse
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polyfield.cli.running import add_kind
from polyfield.datasets.builtin import builtin_scene
from polyfield.errors import ConfigError
from polyfield.fields import model as models
from polyfield.fields import model_file
from polyfield.fields.model import Model, build_model, register_kind
from polyfield.fields.presets import preset_names
from polyfield.renderers import registry as renderers
from polyfield.renderers.registry import register_renderer, renderer_for
from polyfield.renderers.rendered import Rendered
from polyfield.training.capture import describe_capture
from polyfield.training.evaluation import evaluate_model
from polyfield.training.fit import KINDS
from polyfield.training.rendering import render


class Wall(nn.Module):
    """Shows one colour everywhere: no field at all."""

    def __init__(self, color: list[float]) -> None:
        super().__init__()
        self.color = nn.Parameter(torch.tensor(color))


class WallRenderer:
    def __init__(self, model: Model) -> None:
        self.wall = model.module

    def render_rays(self, origins: Tensor, directions: Tensor, background: Tensor) -> Rendered:
        rays = origins.shape[0]
        color = self.wall.color.detach().expand(rays, 3)
        return Rendered(color, torch.ones(rays), torch.ones(rays), rays)

    def state(self) -> dict[str, Tensor]:
        return {}


def build(config: dict[str, Any], seed: int) -> tuple[dict[str, Any], nn.Module]:
    return config, Wall(config["field"]["color"])


@pytest.fixture
def wall() -> Iterator[Model]:
    register_kind("wall", build)
    register_renderer("wall", WallRenderer)
    yield build_model("wall", {"field": {"color": [0.25, 0.5, 0.75]}, "domain": {}})
    del models._KINDS["wall"]
    del renderers._FACTORIES["wall"]


def test_it_is_drawn_evaluated_filed_and_rendered(wall: Model, tmp_path: Path) -> None:
    scene = builtin_scene(views=4, size=16)
    wall.capture, wall.info = describe_capture(scene)
    metrics = evaluate_model(wall, scene)
    truth = scene.images.image(0)
    over_white = truth[..., :3] + 1 - truth[..., 3:]
    mse = (over_white.double() - torch.tensor([0.25, 0.5, 0.75]).double()).square().mean()
    assert metrics["views"] == 1
    assert abs(metrics["psnr"] + 10 * float(mse.log10())) < 1e-4  # float32 pixels

    model_file.save(wall, tmp_path / "wall.safetensors")
    again = model_file.load(tmp_path / "wall.safetensors")
    assert torch.equal(again.module.color, wall.module.color)
    assert isinstance(renderer_for(again), WallRenderer)

    out = render(tmp_path / "wall.safetensors", path="orbit", out=tmp_path / "frames", frames=2)
    assert len(list(out.glob("*.png"))) == 2


def test_names_are_taken_once_and_unknown_ones_are_refused(wall: Model) -> None:
    with pytest.raises(ConfigError, match="a kind of model 'wall' already"):
        register_kind("wall", build)
    with pytest.raises(ConfigError, match="have a renderer already"):
        register_renderer("wall", WallRenderer)
    with pytest.raises(ConfigError, match=r"no kind of model 'wal'. Did you mean 'wall'"):
        build_model("wal", {})


def test_what_can_be_fitted_is_the_same_everywhere() -> None:
    modules = (Path(__file__).parents[2] / "training").glob("fit_*.py")
    assert {module.stem.removeprefix("fit_") for module in modules} == set(KINDS)
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_kind(parser)  # type: ignore[arg-type]
    for kind in KINDS:
        fits = import_module(f"polyfield.training.fit_{kind}")
        assert kind == fits.MODEL
        assert all(
            hasattr(fits, name) for name in ("load", "domain", "batches", "measure", "protocol")
        )
        assert "hashgrid" in preset_names(kind)  # what `fit` takes where no field is named
        assert parser.parse_args(["--as", kind]).kind == kind
