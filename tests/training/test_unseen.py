"""Learning from every so-many-th pixel: nothing else is looked at, and the rest is measured apart."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator

from polyfield.cli.fit import _summary
from polyfield.datasets.picture_source import PictureSource
from polyfield.errors import ConfigError, InputError
from polyfield.fields import model_file
from polyfield.renderers.picture import draw_picture
from polyfield.training.api import evaluate
from polyfield.training.fit import fit
from polyfield.training.fit_image import PixelBatches
from polyfield.training.fit_sphere import GlobeBatches
from polyfield.training.loop import Control

SMALL = ("field.encoder.log2_table=10", "field.encoder.levels=4", "train.batch=100")
SIZES = [(1, 1, 2), (7, 5, 1), (7, 5, 2), (7, 5, 3), (8, 6, 2), (3, 2, 9)]


def noise(width: int, height: int, every: int) -> PictureSource:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (height * width, 3), dtype=np.uint8)
    return PictureSource("noise", width, height, pixels, "", every)


def with_other_unseen(image: PictureSource) -> PictureSource:
    pixels = 255 - image.pixels
    kept = image.seen_ids(torch.arange(image.seen)).numpy()
    pixels[kept] = image.pixels[kept]
    return PictureSource("other", image.width, image.height, pixels, "", image.every)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two pictures of 21 x 15 that are the same at every second pixel."""
    folder = tmp_path_factory.mktemp("unseen")
    image = noise(21, 15, 2)
    for name, source in (("a.png", image), ("b.png", with_other_unseen(image))):
        Image.fromarray(source.pixels.reshape(15, 21, 3)).save(folder / name)
    return folder / "a.png", folder / "b.png"


def short(file: Path, out: Path, *changes: str, **options: Any) -> Any:
    settings = {"steps": 20, "changes": [*SMALL, "train.every=2", *changes], **options}
    return fit(file, out=out, **settings)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return model_file.load(run).module.state_dict()


@pytest.mark.parametrize(("width", "height", "every"), SIZES)
def test_seen_pixels_are_those_of_whole_rows_and_columns(
    width: int, height: int, every: int
) -> None:
    image = noise(width, height, every)
    ids = image.seen_ids(torch.arange(image.seen))
    wanted = [y * width + x for y in range(0, height, every) for x in range(0, width, every)]
    assert ids.tolist() == wanted
    assert torch.equal(image.thinned().values(slice(None)), image.values(ids))


@pytest.mark.parametrize("kind", [PixelBatches, GlobeBatches])
@pytest.mark.parametrize(("width", "height", "every"), SIZES)
def test_what_is_not_seen_changes_no_batch_and_no_weight(
    kind: type, width: int, height: int, every: int
) -> None:
    image = noise(width, height, every)
    for count in (1, 5, 1000):
        given = []
        for source in (image, with_other_unseen(image)):
            batches = kind(source)
            generator = Generator().manual_seed(count)
            given.append([*batches.next(0, count, generator), *batches.weighted()])
        assert all(torch.equal(one, other) for one, other in zip(*given, strict=True))


def test_all_seen_pixels_come_in_a_batch_that_is_large_enough() -> None:
    image = noise(7, 5, 2)
    points, values = PixelBatches(image).next(0, 1000, Generator())
    assert len(points) == 12
    assert points[:, 0].unique().tolist() == pytest.approx([0.5 / 7, 2.5 / 7, 4.5 / 7, 6.5 / 7])
    assert points[:, 1].unique().tolist() == pytest.approx([0.5 / 5, 2.5 / 5, 4.5 / 5])
    assert torch.equal(values, image.thinned().values(slice(None)))


def test_a_fit_sees_no_more_and_is_measured_on_all(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    results = [short(file, tmp_path / file.stem) for file in files]
    one, other = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(one[name], other[name]) for name in one)
    metrics = results[0].metrics
    assert metrics["psnr_unseen"] != results[1].metrics["psnr_unseen"]
    assert metrics["protocol"]["every"] == 2

    truth = torch.from_numpy(np.array(Image.open(files[0]))) / 255.0
    seen = draw_picture(model_file.load(tmp_path / "a"), 21, 15).clamp(0, 1)
    squares = (seen - truth).double().square().mean(2)
    left_out = torch.ones(15, 21, dtype=torch.bool)
    left_out[::2, ::2] = False
    for key, part in (("psnr", squares), ("psnr_unseen", squares[left_out])):
        assert metrics[key] == pytest.approx(-10 * float(part.mean().log10()), abs=1e-5)
    assert f"({metrics['psnr_unseen']:.2f} where it did not look)" in _summary(results[0])


def test_it_survives_a_stop_and_an_evaluation(files: tuple[Path, Path], tmp_path: Path) -> None:
    whole = short(files[0], tmp_path / "whole")
    control = Control()
    control.stop.set()
    assert short(files[0], tmp_path / "cut", control=control).interrupted
    config = json.loads((tmp_path / "cut/config.json").read_text())
    assert config["train"]["every"] == 2
    resumed = fit(None, out=tmp_path / "cut", resume=True)
    assert resumed.metrics["psnr_unseen"] == whole.metrics["psnr_unseen"]
    assert evaluate(tmp_path / "cut")["psnr_unseen"] == whole.metrics["psnr_unseen"]
    # What another picture shows there was not kept from the field on purpose.
    assert "psnr_unseen" not in evaluate(tmp_path / "cut", scene=files[1])


def test_nothing_may_be_left_unseen(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    assert short(tmp_path / "dot.png", tmp_path / "run").metrics["psnr_unseen"] is None
    plain = short(tmp_path / "dot.png", tmp_path / "plain", "train.every=1").metrics
    assert "psnr_unseen" not in plain
    assert plain["protocol"]["every"] == 1


def test_what_has_no_rows_and_columns_is_told(tmp_path: Path) -> None:
    mesh = tmp_path / "triangle.obj"
    mesh.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    for kind in ("sdf", "occupancy"):
        with pytest.raises(ConfigError, match=r"rows and columns .* triangle\.obj is a mesh"):
            fit(mesh, kind=kind, out=tmp_path / "run", changes=["train.every=2"])
    for wrong in ("0", "-1", "1048577", "99999999999999999999", "1.5", "two"):
        with pytest.raises(InputError, match=r"train\.every must be"):
            fit(mesh, out=tmp_path / "run", changes=[f"train.every={wrong}"])
    assert not (tmp_path / "run").exists()
