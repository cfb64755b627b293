"""Laws that every encoder and head obeys; a new one is covered by being there."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from polyfield.errors import ConfigError
from polyfield.fields import registry

ENCODERS = registry.kinds("encoders")
HEADS = registry.kinds("heads")


def generator() -> Generator:
    return Generator().manual_seed(0)


def encoder(kind: str) -> Any:
    # Tables are small, and cells wide beside the steps of the finite differences below.
    smaller = {"log2_table": 12, "finest": 32.0, "octaves": 4, "side": 33, "scales": [1, 2]}
    known = registry.complete("encoders", {"kind": kind})
    changes = {key: value for key, value in smaller.items() if key in known}
    return registry.build_encoder({"kind": kind, **changes}, 3, generator())


def directions(count: int) -> Tensor:
    """Unit vectors with entries in [0, 1]: what both position and direction encoders take."""
    return nn.functional.normalize(torch.rand(count, 3, generator=generator()) + 1e-3, dim=-1)


@pytest.mark.parametrize("slot", ["encoders", "heads"])
def test_every_kind_has_a_config_that_survives_json(slot: str) -> None:
    assert registry.kinds(slot)
    for kind in registry.kinds(slot):
        whole = registry.complete(slot, {"kind": kind})
        assert registry.complete(slot, whole) == whole


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_encoders_give_out_dim_finite_features(kind: str, count: int) -> None:
    part = encoder(kind)
    features = part(directions(count))
    assert features.shape == (count, part.out_dim)
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("kind", ENCODERS)
def test_encoders_treat_points_one_by_one(kind: str) -> None:
    part, x = encoder(kind), directions(333)
    order = torch.randperm(333, generator=generator())
    assert torch.equal(part(x)[order], part(x[order].contiguous()))


@pytest.mark.parametrize("kind", ENCODERS)
def test_encoders_with_one_seed_are_equal(kind: str) -> None:
    one, other = encoder(kind), encoder(kind)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


@pytest.mark.parametrize("kind", ENCODERS)
def test_encoders_name_all_that_they_train(kind: str) -> None:
    part = encoder(kind)
    listed = {id(p) for group in part.groups() for p in group.parameters}
    assert listed == {id(p) for p in part.parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", ENCODERS)
def test_encoders_have_the_gradient_of_their_input(kind: str) -> None:
    # A central difference over 2h: wrong by h^2 / 6 times a third derivative, plus float32's rounding over h.
    # Piecewise linear encoders have kinks; points are compared where both sides agree, which must be most.
    part, x = encoder(kind), directions(400).requires_grad_()
    cotangent = torch.randn(part.out_dim, generator=generator())
    (gradient,) = torch.autograd.grad((part(x) @ cotangent).sum(), x)
    h = 2.0**-13
    for axis in range(3):
        shift = torch.zeros(3)
        shift[axis] = h
        with torch.no_grad():
            up, down = part(x + shift) @ cotangent, part(x - shift) @ cotangent
        difference = (up - down) / (2 * h)
        scale = gradient.norm(dim=-1) + difference.abs() + 1e-3
        close = (gradient[:, axis] - difference).abs() <= 0.05 * scale
        assert close.float().mean() > 0.7


@pytest.mark.parametrize("kind", HEADS)
def test_heads_take_a_condition_by_ray(kind: str) -> None:
    head = registry.build_head({"kind": kind}, 8, 3, generator())
    x = torch.randn(50, 5, generator=generator())
    condition = torch.randn(4, 3, generator=generator())
    rows = torch.randint(4, (50,), generator=generator()).sort().values.to(torch.int32)
    joined = head(torch.cat([x, condition[rows.long()]], dim=1))
    # The same products, summed in another order at most: a few units in the last place.
    assert torch.allclose(head(x, condition, rows), joined, rtol=1e-5, atol=1e-5)


@dataclass(frozen=True)
class ToyConfig:
    """An encoder that lives in this test alone."""

    power: int = 2


class Toy(nn.Module):
    def __init__(self, power: int, dim: int) -> None:
        super().__init__()
        self.power, self.out_dim = power, dim

    def forward(self, x: Tensor) -> Tensor:
        return x**self.power

    def groups(self) -> list[registry.ParameterGroup]:
        return []


def test_a_new_encoder_is_one_registration() -> None:
    module = SimpleNamespace(Config=ToyConfig, build=lambda config, dim, _: Toy(config.power, dim))
    registry.register("encoders", "toy", module)
    try:
        part = registry.build_encoder({"kind": "toy", "power": 3}, 3, generator())
        assert part(torch.full((1, 3), 2.0)).tolist() == [[8.0, 8.0, 8.0]]
        assert "toy" in registry.kinds("encoders")
        with pytest.raises(ConfigError, match="have the kind 'toy'"):
            registry.register("encoders", "toy", module)
    finally:
        del registry._registered["encoders", "toy"]


def test_unknown_parts_and_keys_are_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no encoder 'hash_gird'. Did you mean 'hash_grid'"):
        registry.complete("encoders", {"kind": "hash_gird"})
    with pytest.raises(ConfigError, match=r"no key 'level'. Did you mean 'levels'"):
        registry.complete("encoders", {"kind": "hash_grid", "level": 3})
    with pytest.raises(ConfigError, match="The encoder needs a kind"):
        registry.complete("encoders", {"levels": 3})
