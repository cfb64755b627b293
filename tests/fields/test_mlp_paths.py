"""Paths through the network that must give the same bits: activations kept or computed again, at once or dispatched."""

import pytest
import torch
from torch import Tensor

from polyfield import native
from polyfield.fields.ops import mlp as module
from polyfield.fields.ops.mlp import MlpShape, mlp, mlp_reference

SHAPES = [
    MlpShape(20, 16, 64, 1),
    MlpShape(32, 3, 64, 2, output_activation="sigmoid"),
    MlpShape(33, 17, 37, 3, activation="softplus", scale=5.0, skips=(2,), bias=True),
    MlpShape(7, 2, 48, 2, activation="sine", scale=3.0, output_activation="sigmoid", bias=True),
    MlpShape(11, 3, 40, 1, activation="gaussian", bias=True),
    MlpShape(9, 3, 35, 2, bias=True, skips=(1,), composition=(1.0, 20.0)),
]
POINTS = 777


def name_of(value: object) -> str:
    assert isinstance(value, MlpShape)
    return f"{value.inputs}-{value.hidden}x{value.width}-{value.outputs}-{value.activation}"


def numbers(*size: int, seed: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def results(shape: MlpShape, precision: str, extra: int = 4) -> list[Tensor]:
    """Outputs and all gradients of a network with a condition."""
    rows = torch.arange(POINTS, dtype=torch.int32) // 100
    leaves = [
        numbers(POINTS, shape.inputs - extra, seed=0),
        numbers(shape.parameters, seed=1) * 0.2,
        numbers(8, extra, seed=2),
    ]
    x, weights, condition = (leaf.requires_grad_() for leaf in leaves)
    y = mlp(x, weights, shape, precision, condition=condition, rows=rows)
    return [y, *torch.autograd.grad(y, leaves, numbers(POINTS, shape.outputs, seed=3))]


@pytest.mark.skipif(not native.available(), reason="the native module is not there")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_kept_activations_change_no_bit(
    shape: MlpShape, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All kept, none, and some: those that fit into the budget."""
    kept = results(shape, precision)
    point = module._bytes_a_point(shape, precision)
    for points in (0, 1, 64, 400):
        monkeypatch.setattr(module, "_KEPT_BYTES", points * point)
        assert all(map(torch.equal, results(shape, precision), kept))


@pytest.mark.skipif(not native.available(), reason="the native module is not there")
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_the_dispatcher_changes_no_bit(shape: MlpShape, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled graphs and fake tensors go through torch's dispatcher, plain calls do not."""
    at_once = results(shape, "bf16")
    monkeypatch.setattr(module.native, "at_once", lambda _: False)
    assert all(map(torch.equal, results(shape, "bf16"), at_once))
    with torch.no_grad():
        x, weights = numbers(POINTS, shape.inputs, seed=0), numbers(shape.parameters, seed=1)
        dispatched = mlp(x, weights, shape)
        monkeypatch.undo()
        assert torch.equal(mlp(x, weights, shape), dispatched)


def test_memory_of_kept_activations_is_bounded() -> None:
    """A network of 8 x 256 keeps about 4 kB of a point: the budget is reached at 60 000 points, not passed."""
    shape = MlpShape(63, 4, 256, 8, skips=(5,), bias=True)
    assert 60_000 < module._KEPT_BYTES // module._bytes_a_point(shape, "bf16") < 70_000


def test_fake_tensors_and_vmap_still_work() -> None:
    shape = SHAPES[0]
    weights, x = numbers(shape.parameters, seed=0), numbers(5, 20, seed=1)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True):
        assert mlp(torch.empty(5, 20), torch.empty(shape.parameters), shape).shape == (5, 16)
    twice = torch.func.vmap(lambda w: mlp(x, w, shape))(torch.stack([weights, -weights]))
    assert torch.equal(twice[0], mlp(x, weights, shape))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_sigmoid_at_the_end(precision: str) -> None:
    """A network with it is one without it and a sigmoid behind, there and back."""
    shape = MlpShape(20, 3, 64, 2, output_activation="sigmoid")
    plain = MlpShape(20, 3, 64, 2)
    x, weights = numbers(300, 20, seed=0), numbers(shape.parameters, seed=1)
    gradient = numbers(300, 3, seed=2)

    def both(shape: MlpShape, last: bool) -> list[Tensor]:
        leaves = [x.clone().requires_grad_(), weights.clone().requires_grad_()]
        y = mlp(leaves[0], leaves[1], shape, precision)
        y = torch.sigmoid(y) if last else y
        return [y, *torch.autograd.grad(y, leaves, gradient)]

    for found, wanted in zip(both(shape, False), both(plain, True), strict=True):
        error = (found - wanted).abs() / wanted.abs().max()
        # A few last digits; in bf16 they may tip the rounding of the gradient that starts the way back.
        assert error.max() < (2e-6 if precision == "fp32" else 2**-8)
        assert error.mean() < 1e-6


def test_sigmoid_over_its_whole_range() -> None:
    shape = MlpShape(1, 1, 1, 1, activation="none", output_activation="sigmoid")
    z = torch.cat([torch.linspace(-120, 120, 4801), torch.tensor([torch.nan])])[:, None]
    found = mlp(z, torch.ones(2), shape)
    wanted = torch.sigmoid(z.double())
    # 4 last digits; below -87 only smallness counts, as floats end there
    torch.testing.assert_close(found.double(), wanted, rtol=5e-7, atol=2e-38, equal_nan=True)


def test_gradients_of_a_sigmoid_at_the_end() -> None:
    shape = MlpShape(3, 2, 5, 1, activation="softplus", output_activation="sigmoid", bias=True)
    flat = numbers(shape.parameters, seed=0).double().requires_grad_()
    x = numbers(6, 3, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: mlp(x, w, shape), (x, flat))
    assert torch.autograd.gradgradcheck(lambda x, w: mlp(x, w, shape), (x, flat))
    reference = mlp_reference(x, flat, shape)
    # float32 rounding of three products
    torch.testing.assert_close(
        mlp(x.float(), flat.float(), shape).double(), reference, rtol=1e-5, atol=1e-6
    )


def test_second_derivatives_behind_a_sigmoid() -> None:
    shape = MlpShape(3, 2, 16, 1, activation="softplus", output_activation="sigmoid", bias=True)
    flat, x = numbers(shape.parameters, seed=0), numbers(40, 3, seed=1)

    def second(flat: Tensor, x: Tensor) -> Tensor:
        flat, x = flat.detach().requires_grad_(), x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(mlp(x, flat, shape).sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().mean(), flat)[0]

    wanted = second(flat.double(), x.double())
    error = (second(flat, x).double() - wanted).abs().max() / wanted.abs().max()
    assert error < 1e-5  # float32 rounding through two layers, twice
