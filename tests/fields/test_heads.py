"""Heads without weights: spherical harmonics, identity, sum."""

import pytest
import torch
from torch import Generator, Tensor, nn

from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.domain import Box
from polyfield.fields.ops.spherical_harmonics import spherical_harmonics
from polyfield.fields.radiance import RadianceConfig, RadianceField
from polyfield.fields.registry import build_head
from polyfield.fields.samples import Samples


def numbers(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=Generator().manual_seed(seed))


def harmonics_head(degree: int, outputs: int) -> nn.Module:
    width = 1 + outputs * degree**2 + degree**2
    part: nn.Module = build_head(
        {"kind": "spherical_harmonics", "degree": degree}, width, outputs, Generator()
    )
    return part


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
@pytest.mark.parametrize("outputs", [1, 3, 5])
def test_an_output_is_the_sum_of_coefficients_times_basis(degree: int, outputs: int) -> None:
    terms = degree**2
    features = numbers(50, 1 + outputs * terms)
    directions = nn.functional.normalize(numbers(7, 3, seed=1), dim=1)
    basis = spherical_harmonics(directions, degree)
    rows = torch.randint(7, (50,), generator=Generator().manual_seed(2)).to(torch.int32)
    found = harmonics_head(degree, outputs)(features, basis, rows)
    assert found.shape == (50, outputs)
    for c in range(outputs):
        own = features[:, 1 + c * terms : 1 + (c + 1) * terms]
        # At most 16 terms around 1, summed in another order.
        assert torch.allclose(found[:, c], (own * basis[rows.long()]).sum(1), atol=1e-5)
    both = torch.cat([features, basis[rows.long()]], 1)
    assert torch.equal(harmonics_head(degree, outputs)(both), found)
    feature_major = features.t().contiguous().t()
    found_too = harmonics_head(degree, outputs)(feature_major, basis, rows)
    assert torch.allclose(found_too, found, atol=1e-5)


def test_the_raw_density_does_not_colour() -> None:
    features = numbers(5, 1 + 3 * 4).requires_grad_()
    basis, rows = numbers(2, 4, seed=1), torch.tensor([0, 1, 1, 0, 1], dtype=torch.int32)
    head = harmonics_head(2, 3)
    head(features, basis, rows).sum().backward()
    assert features.grad is not None
    assert not features.grad[:, 0].any()
    assert torch.allclose(features.grad[:, 1:], basis[rows.long()].repeat(1, 3))


def test_with_the_first_band_alone_a_colour_is_the_same_from_everywhere() -> None:
    field = sh_field(degree=1)
    samples = Samples(
        positions=torch.full((6, 3), 0.2),
        directions=nn.functional.normalize(numbers(6, 3), dim=1),
        ray_ids=torch.arange(6, dtype=torch.int32),
        t0=torch.zeros(6),
        t1=torch.ones(6),
        ray_offsets=torch.arange(7),
    )
    _, features = field.density(samples.positions)
    colors = field.color(samples, features)
    assert torch.equal(colors, colors[:1].expand(6, 3))
    assert ((colors > 0) & (colors < 1)).all()


def sh_field(degree: int) -> RadianceField:
    config = RadianceConfig(
        encoder={"kind": "frequency", "octaves": 4},
        density_head={"kind": "rbf", "neurons": 8},
        direction_encoder={"kind": "spherical_harmonics", "degree": degree},
        color_head={"kind": "spherical_harmonics", "degree": degree},
        features=1 + 3 * degree**2,
        density="softplus",
    )
    return RadianceField(config, Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), 0)


@pytest.mark.parametrize("inputs", [1, 36, 38, 100])
def test_the_wrong_number_of_features_is_told(inputs: int) -> None:
    with pytest.raises(
        ConfigError, match=r"degree 3 needs 28 features .* 37 inputs in all"
    ) as told:
        build_head({"kind": "spherical_harmonics"}, inputs, 3, Generator())
    assert str(told.value).endswith(f"but there are {inputs}.")
    with pytest.raises(ConfigError, match=r"degree must be in 1..8, but is 0"):
        build_head({"kind": "spherical_harmonics", "degree": 0}, 37, 3, Generator())


def test_tensors_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="takes 13 features and a basis of 4 values, but got 12"):
        harmonics_head(2, 3)(torch.zeros(5, 16))
    rows = torch.zeros(5, dtype=torch.int32)
    with pytest.raises(ShapeError, match="condition and rows together"):
        build_head({"kind": "sum"}, 4, 1, Generator())(torch.zeros(5, 4), rows=rows)


def test_identity_gives_what_it_gets() -> None:
    head, x = build_head({"kind": "identity"}, 6, 6, Generator()), numbers(9, 6)
    assert torch.equal(head(x), x)
    with pytest.raises(ConfigError, match="3 outputs are wanted, but it gives its 6 inputs"):
        build_head({"kind": "identity"}, 6, 3, Generator())


def test_sum_adds_up_and_shifts() -> None:
    head, x = build_head({"kind": "sum", "shift": -10.0}, 6, 1, Generator()), numbers(9, 6)
    assert torch.allclose(head(x), x.sum(1, keepdim=True) - 10)
    with pytest.raises(ConfigError, match=r"but 3 are wanted; .* needs features = 1"):
        build_head({"kind": "sum"}, 6, 3, Generator())
