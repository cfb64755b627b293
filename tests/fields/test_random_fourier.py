"""Random Fourier features: the definition, the kernel that they stand for, what is saved, the paper's counts."""

import math
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from polyfield.errors import ConfigError
from polyfield.fields import model_file
from polyfield.fields.encoders.random_fourier import Config, RandomFourier, build
from polyfield.fields.model import Model, build_model
from polyfield.fields.presets import preset

PIXELS = {"width": 48, "height": 32, "channels": 3}


def encoder(dim: int = 2, seed: int = 0, **settings: float) -> RandomFourier:
    config = Config(**settings)  # type: ignore[arg-type]
    return build(config, dim, Generator().manual_seed(seed))


def points(count: int, dim: int = 2) -> Tensor:
    return torch.rand(count, dim, generator=Generator().manual_seed(count))


def image(name: str, seed: int = 0) -> Model:
    return build_model("image", {"field": preset(name, "image")["field"], "domain": PIXELS}, seed)


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_it_is_its_definition(dim: int, count: int) -> None:
    part, x = encoder(dim, features=33), points(count, dim)
    angles = 2 * math.pi * x.double() @ part.frequencies.double().t()
    wanted = torch.cat([angles.sin(), angles.cos()], 1)
    # The product of up to 5 terms of 4.5 sigma or less rounds by 5 * 45 * 2^-24 turns, 8e-5 of an angle.
    assert torch.allclose(part(x).double(), wanted, atol=1e-4)


def test_gradients_reach_coordinates_twice() -> None:
    part = encoder(features=6, sigma=1.0).double()
    x = points(5).double().requires_grad_()
    assert torch.autograd.gradcheck(part, x)
    assert torch.autograd.gradgradcheck(part, x)


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_near_points_are_alike_as_sigma_says(sigma: float) -> None:
    waves = 1 << 14
    part = encoder(features=waves, sigma=sigma)
    distance = torch.linspace(0.0, 1.0 / sigma, 9)
    x = torch.stack([0.3 + 0.6 * distance, 0.4 + 0.8 * distance], 1)
    features = part(x)
    alike = features @ features[0] / waves
    # A mean of cosines, of variance at most 1/2: five standard deviations.
    bound = 5 * math.sqrt(0.5 / waves)
    wanted = torch.exp(-2 * (math.pi * sigma * distance).square())
    assert (alike - wanted).abs().max() < bound


def test_the_waves_are_the_seeds_and_not_trained() -> None:
    one, same, other = (encoder(seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.frequencies, same.frequencies)
    assert not torch.equal(one.frequencies, other.frequencies)
    assert list(one.parameters()) == []
    assert one.groups() == []
    # 512 draws: the standard deviation of their standard deviation is 10 / sqrt(1024).
    assert one.frequencies.std().item() == pytest.approx(10.0, abs=5 * 10 / 32)


def test_saved_waves_are_read_back(tmp_path: Path) -> None:
    model = image("nerf", seed=5)
    model_file.save(model, tmp_path / "field.safetensors")
    again = model_file.load(tmp_path / "field.safetensors")
    assert torch.equal(again.module(points(50)), model.module(points(50)))


@pytest.mark.parametrize(("name", "trained"), [("nerf", 263_683), ("cam", 269_827)])
def test_presets_have_as_many_parameters_as_in_the_paper(name: str, trained: int) -> None:
    module = image(name).module
    assert sum(p.numel() for p in module.parameters()) == trained
    stored = sum(tensor.numel() for tensor in module.state_dict().values())
    assert stored == trained + 2 * 256  # the waves


def test_the_grids_learn_ten_times_as_fast_as_the_network() -> None:
    model = image("cam")
    rates = {group.name: group.rate for group in model.module.groups()}  # type: ignore[operator]
    assert rates == {"head.weights": 1.0, "head.grids": 10.0}
    assert preset("cam", "image")["train"]["rate"] == 1e-3


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"features": 0}, "features must be 1 to 32768, but is 0"),
        ({"features": 32769}, "features must be"),
        ({"sigma": 0.0}, r"sigma must be in \(0, 10\^6\], but is 0.0"),
        ({"sigma": math.nan}, "sigma must be"),
    ],
)
def test_nonsense_is_refused(wrong: dict[str, float], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Config(**wrong)  # type: ignore[arg-type]
