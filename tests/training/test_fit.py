"""Fitting images end to end: it learns, repeats itself, survives, and refuses what it cannot use."""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from polyfield.datasets.picture_source import load_picture
from polyfield.errors import ConfigError, DataError, InputError
from polyfield.fields import model_file
from polyfield.fields.presets import preset_names
from polyfield.renderers.picture import draw_picture
from polyfield.training.api import evaluate, train
from polyfield.training.fit import fit
from polyfield.training.fit_image import PixelBatches
from polyfield.training.fit_sphere import GlobeBatches
from polyfield.training.loop import Control
from polyfield.training.rendering import render

SMALL = ("field.encoder.log2_table=10", "field.encoder.levels=4", "train.batch=512")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smooth picture with an edge, 48 x 32."""
    y, x = np.mgrid[0:32, 0:48] / 32.0
    red, green = 0.5 + 0.4 * np.sin(5 * x), 0.5 + 0.4 * np.cos(4 * y)
    pixels = np.stack([red, green, np.where(x + y > 1.1, 0.9, 0.1)], -1)
    path = tmp_path_factory.mktemp("image") / "edge.png"
    Image.fromarray((255 * pixels).astype(np.uint8)).save(path)
    return path


def short(image: Path, out: Path, **options: Any) -> Any:
    return fit(image, out=out, **{"steps": 40, "changes": SMALL, **options})


def weights(run: Path) -> dict[str, torch.Tensor]:
    return model_file.load(run).module.state_dict()


def test_a_fit_learns_and_says_how_well(image: Path, tmp_path: Path) -> None:
    result = short(image, tmp_path / "run", steps=300)
    # 0.003 of the values' variance is left; 40 steps leave more than a tenth.
    assert result.metrics["psnr"] > 33.0
    assert json.loads((tmp_path / "run/metrics.json").read_text()) == result.metrics
    shown = load_picture(tmp_path / "run/renders/reconstruction.png")
    assert (shown.width, shown.height) == (48, 32)
    again = evaluate(tmp_path / "run")
    assert again["psnr"] == result.metrics["psnr"]
    truth = load_picture(image).values(slice(None)).view(32, 48, 3)
    seen = draw_picture(model_file.load(tmp_path / "run"), 48, 32).clamp(0, 1)
    error = float((seen.double() - truth.double()).square().mean())
    assert result.metrics["psnr"] == pytest.approx(-10 * np.log10(error), abs=1e-6)


def test_the_same_seed_gives_the_same_bits(image: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        short(image, tmp_path / name, seed=seed)
    one, same, other = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("stop", [1, 23])
def test_a_resumed_fit_ends_with_the_same_bits(
    image: Path, tmp_path: Path, stop: int, stop_after: Callable[[int], Event]
) -> None:
    short(image, tmp_path / "whole")
    first = short(image, tmp_path / "cut", control=Control(stop=stop_after(stop)))
    assert (first.interrupted, first.step) == (True, stop)
    second = fit(None, out=tmp_path / "cut", resume=True)
    assert (second.interrupted, second.step) == (False, 40)
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in ("image", "sphere") for name in preset_names(kind)]
)
def test_every_preset_fits(image: Path, tmp_path: Path, kind: str, name: str) -> None:
    few = ("train.batch=512",)
    result = fit(image, kind=kind, out=tmp_path / "run", field=name, steps=3, changes=few)
    assert np.isfinite(result.metrics["psnr"])
    assert model_file.load(tmp_path / "run").kind == kind


@pytest.mark.parametrize("count", [1, 100, 1535, 1536, 9999])
def test_batches_visit_every_stretch_of_the_image(image: Path, count: int) -> None:
    batches = PixelBatches(load_picture(image))
    points, values = batches.next(0, count, torch.Generator().manual_seed(0))
    assert points.shape == (min(count, 1536), 2)
    assert values.shape == (min(count, 1536), 3)
    ids = (points * torch.tensor([48, 32])).floor().long()
    place = ids[:, 1] * 48 + ids[:, 0]
    first = torch.arange(len(place)) * (1536 / len(place))
    assert (first.floor().long() <= place).all()
    assert (place < (first + 1536 / len(place)).ceil().long()).all()


def test_transparent_images_are_compared_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 4), dtype=np.uint8)
    pixels[4:12, 4:12] = (200, 30, 90, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    result = short(tmp_path / "a.png", tmp_path / "run", steps=200)
    assert result.metrics["psnr"] > 30.0
    shown = np.asarray(Image.open(tmp_path / "run/renders/reconstruction.png"))
    assert shown.shape == (16, 16, 3)
    assert shown[0, 0].min() > 225  # white where nothing is


@pytest.mark.parametrize("kind", ["image", "sphere"])
def test_fields_and_images_of_which_one_is_transparent_are_compared(
    kind: str, tmp_path: Path
) -> None:
    pixels = np.full((16, 16, 4), 255, dtype=np.uint8)
    pixels[4:12, 4:12] = (200, 30, 90, 255)
    pixels[:4, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "rgba.png")
    Image.fromarray(pixels[..., :3]).save(tmp_path / "rgb.png")  # the same on white
    for name, other in (("rgba", "rgb"), ("rgb", "rgba")):
        steps = {"kind": kind, "steps": 20, "changes": ["train.batch=512"]}
        own = fit(tmp_path / f"{name}.png", out=tmp_path / name, **steps).metrics
        seen = evaluate(tmp_path / name, scene=tmp_path / f"{other}.png", save_images=True)
        assert seen["psnr"] == pytest.approx(own["psnr"], abs=1e-4)  # rounding of one image
        assert seen["ssim"] == pytest.approx(own["ssim"], abs=1e-4)


def test_a_sphere_is_one_at_its_seam_and_poles(tmp_path: Path) -> None:
    v, u = (np.mgrid[0:40, 0:80] + 0.5) / [[[40]], [[80]]]
    longitude, latitude = (2 * u - 1) * np.pi, (0.5 - v) * np.pi
    x, y, z = (
        np.cos(latitude) * np.cos(longitude),
        np.cos(latitude) * np.sin(longitude),
        np.sin(latitude),
    )
    pixels = 0.5 + 0.4 * np.stack([x * y * 2, z**3, np.sin(4 * x)], -1)
    Image.fromarray((255 * pixels).round().astype(np.uint8)).save(tmp_path / "map.png")
    settings: dict[str, Any] = {"kind": "sphere", "steps": 400, "changes": ["train.batch=1024"]}
    result = fit(tmp_path / "map.png", out=tmp_path / "run", field="location", **settings)
    # Polynomials of low degree and a smooth sine: what is left is the noise of 8 bits and of the last steps.
    assert result.metrics["psnr"] > 35.0
    seen = draw_picture(model_file.load(tmp_path / "run"), 80, 40)
    # A pixel apart on both sides of the seam as anywhere else; the pole's row is a ring of radius 0.04 and so nearly of
    # one colour: sin(4 x) has 0.4 * 4 * 0.04 / sqrt(2) of standard deviation there.
    assert (seen[:, 0] - seen[:, -1]).abs().max() < 0.1
    assert seen[0].std(0).max() < 0.06


def test_areas_of_the_sphere_count_alike(image: Path) -> None:
    batches = GlobeBatches(load_picture(image))
    points, _ = batches.next(0, 20000, torch.Generator().manual_seed(0))
    height = 2 * points[:, 2] - 1
    # Rings of equal height have equal areas (Archimedes); rows of pixels blur the rings' edges.
    counts = torch.histc(height, bins=4, min=-1.0, max=1.0) / 20000
    assert torch.allclose(counts, torch.full((4,), 0.25), atol=0.02)
    assert torch.allclose((2 * points - 1).norm(dim=1), torch.ones(20000), atol=1e-6)


def test_a_picture_of_any_size(image: Path, tmp_path: Path) -> None:
    short(image, tmp_path / "run")
    render(tmp_path / "run", out=tmp_path / "a.png", height=64)
    with Image.open(tmp_path / "a.png") as seen:
        assert seen.size == (96, 64)
    with pytest.raises(InputError, match="no camera path"):
        render(tmp_path / "run", path="orbit", out=tmp_path / "a.png")
    with pytest.raises(InputError, match=r"goes to a \.png file"):
        render(tmp_path / "run", out=tmp_path / "a.mp4")


def test_what_cannot_be_fitted_is_refused_before_anything_is_lost(
    image: Path, tmp_path: Path
) -> None:
    short(image, tmp_path / "run")
    kept = (tmp_path / "run/field.safetensors").read_bytes()
    for error, reason, wrong in (
        (InputError, "not empty", {}),
        (ConfigError, "no field preset 'hashgrit'.*Did you mean 'hashgrid'", {"field": "hashgrit"}),
        (ConfigError, r"no key 'bach'. Did you mean 'batch'", {"changes": ["train.bach=3"]}),
        (InputError, "nothing to fit --as 'imag'", {"kind": "imag"}),
        (ConfigError, "train.batch must be in", {"changes": ["train.batch=0"]}),
        (InputError, r"coordinates must be \[N, 3\]", {"changes": ['field.head={"kind": "cam"}']}),
    ):
        overwrite = {"overwrite": True} if wrong else {}
        with pytest.raises(error, match=reason):
            fit(image, out=tmp_path / "run", steps=5, **overwrite, **wrong)
    with pytest.raises(DataError, match="There is no image"):
        fit(tmp_path / "none.png", out=tmp_path / "run", steps=5, overwrite=True)
    assert (tmp_path / "run/field.safetensors").read_bytes() == kept


def test_runs_of_other_commands_and_other_files_are_told_apart(image: Path, tmp_path: Path) -> None:
    short(image, tmp_path / "run")
    with pytest.raises(InputError, match="was made by polyfield fit"):
        train(None, out=tmp_path / "run", resume=True)
    Image.new("RGB", (48, 32)).save(tmp_path / "other.png")
    with pytest.raises(InputError, match="not what this run was started with"):
        fit(tmp_path / "other.png", out=tmp_path / "run", resume=True)
    before = (tmp_path / "run/metrics.json").read_bytes()
    elsewhere = evaluate(tmp_path / "run", scene=tmp_path / "other.png")
    assert elsewhere["scene"] == "other.png"
    assert (tmp_path / "run/metrics.json").read_bytes() == before
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((tmp_path / "run/field.safetensors").read_bytes())
    with pytest.raises(InputError, match="does not say what it was fitted to"):
        evaluate(alone)
    assert evaluate(alone, scene=image)["psnr"] == json.loads(before)["psnr"]


def test_a_real_photograph(data_dir: Path, tmp_path: Path) -> None:
    photo = data_dir / "images" / "kodim23.png"
    result = fit(photo, out=tmp_path / "run", steps=60, changes=["train.batch=16384"])
    assert result.metrics["psnr"] > 24.0
