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
GATES = registry.kinds("gates")


def generator() -> Generator:
    return Generator().manual_seed(0)


def encoder(kind: str) -> Any:
    # Tables are small, and cells wide beside the steps of the finite differences below.
    smaller = {"log2_table": 12, "finest": 32.0, "octaves": 4, "side": 33, "scales": [1, 2]}
    # Derivatives of sums that count as constants are not those of finite differences, nor are quick sines.
    smaller |= {"normalise": False, "frequencies": None, "initial_features": 1.0}
    known = registry.complete("encoders", {"kind": kind})
    changes = {key: value for key, value in smaller.items() if key in known}
    return registry.build_encoder({"kind": kind, **changes}, 3, generator())


# Of what heads read: features, columns of the condition, outputs; where they differ from the usual.
WIDTHS = {"identity": (5, 3, 8), "sum": (5, 3, 1), "spherical_harmonics": (1 + 3 * 9, 9, 3)}


class HeadCase:
    """A head with inputs that suit it."""

    def __init__(self, kind: str, count: int = 50) -> None:
        self.features, columns, self.outputs = WIDTHS.get(kind, (5, 3, 3))
        width = self.features + columns
        self.head = registry.build_head({"kind": kind}, width, self.outputs, generator())
        self.x = torch.randn(count, self.features, generator=generator())
        self.condition = torch.randn(4, columns, generator=generator())
        rows = torch.randint(4, (count,), generator=generator()).sort().values
        self.rows = rows.to(torch.int32)
        self.coordinates = torch.rand(count, 3, generator=generator())

    def __call__(self, x: Tensor, *condition: Tensor, order: Any = slice(None)) -> Tensor:
        given = {}
        if getattr(self.head, "wants_coordinates", False):
            given["coordinates"] = self.coordinates[order]
        out: Tensor = self.head(x, *condition, **given)
        return out

    def all(self) -> Tensor:
        return self(self.x, self.condition, self.rows)


def gate(kind: str) -> Any:
    known = registry.complete("gates", {"kind": kind})
    smaller = {key: value for key, value in {"side": 9}.items() if key in known}
    return registry.build_gate({"kind": kind, **smaller}, 3, generator())


def directions(count: int) -> Tensor:
    """Unit vectors with entries in [0, 1]: what both position and direction encoders take."""
    return nn.functional.normalize(torch.rand(count, 3, generator=generator()) + 1e-3, dim=-1)


@pytest.mark.parametrize("slot", ["encoders", "gates", "heads"])
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
@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_heads_give_as_many_finite_outputs_as_asked(kind: str, count: int) -> None:
    case = HeadCase(kind, count)
    out = case.all()
    assert out.shape == (count, case.outputs)
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("kind", HEADS)
def test_heads_take_a_condition_by_ray(kind: str) -> None:
    case = HeadCase(kind)
    joined = case(torch.cat([case.x, case.condition[case.rows.long()]], dim=1))
    # The same products, summed in another order at most: a few units in the last place.
    assert torch.allclose(case.all(), joined, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", HEADS)
def test_heads_treat_points_one_by_one(kind: str) -> None:
    case = HeadCase(kind, 333)
    order = torch.randperm(333, generator=generator())
    shuffled = case(case.x[order], case.condition, case.rows[order], order=order)
    # Torch's own products may sum in another order where another thread takes a row.
    assert torch.allclose(case.all()[order], shuffled, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", HEADS)
def test_heads_read_features_that_lie_feature_after_feature(kind: str) -> None:
    case = HeadCase(kind)
    turned = case(case.x.t().contiguous().t(), case.condition, case.rows)
    assert torch.allclose(case.all(), turned, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", HEADS)
def test_heads_have_gradients_of_features_condition_and_weights(kind: str) -> None:
    case = HeadCase(kind)
    leaves = [case.x.requires_grad_(), case.condition.requires_grad_(), *case.head.parameters()]
    case.all().square().sum().backward()
    for leaf in leaves:
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert leaf.grad.any()


@pytest.mark.parametrize("kind", GATES)
def test_gates_give_features_and_a_factor(kind: str) -> None:
    part = gate(kind)
    for count in (0, 1, 7, 1000):
        f = torch.randn(count, 5, generator=generator()).requires_grad_()
        features, factor = part(directions(count), f)
        assert features.shape == (count, 5)
        assert factor.shape == (count,)
        assert torch.isfinite(features).all()
        assert ((factor >= 0) & (factor <= 1)).all()
        (slope,) = torch.autograd.grad(features.sum() + factor.sum(), f)
        assert torch.isfinite(slope).all()


@pytest.mark.parametrize(
    "kind", [kind for kind in GATES if isinstance(gate(kind), registry.Regularised)]
)
def test_penalties_add_finite_gradients_to_what_is_there(kind: str) -> None:
    part = gate(kind)
    before = {name: value.clone() for name, value in part.state_dict().items()}
    for parameter in part.parameters():
        parameter.grad = torch.ones_like(parameter)
    part.regularise(0.5)
    # A run may be saved before this gradient and go on from there.
    assert all(torch.equal(value, before[name]) for name, value in part.state_dict().items())
    for parameter in part.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert (parameter.grad - 1).abs().max() < 0.5  # added, and small


def part_of(slot: str, kind: str) -> Any:
    return HeadCase(kind).head if slot == "heads" else gate(kind)


@pytest.mark.parametrize(
    ("slot", "kind"), [*(("heads", kind) for kind in HEADS), *(("gates", kind) for kind in GATES)]
)
def test_heads_and_gates_of_one_seed_are_equal_and_name_all_that_they_train(
    slot: str, kind: str
) -> None:
    one, other = part_of(slot, kind), part_of(slot, kind)
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    listed = [id(p) for group in one.groups() for p in group.parameters]
    assert sorted(listed) == sorted(id(p) for p in one.parameters() if p.requires_grad)
    names = [group.name for group in one.groups()]
    assert len(set(names)) == len(names)


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
