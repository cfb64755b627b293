"""The first hidden layer of NeuRBF's decoders: z + sin(m z), m by column."""

import pytest
import torch
from torch import Tensor

from polyfield.errors import ConfigError
from polyfield.fields.heads.mlp import Mlp, MlpConfig
from polyfield.fields.ops.mlp import MlpShape, mlp, mlp_reference

COLUMNS = 48


def numbers(*size: int, seed: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def test_frequencies_are_spaced_by_one_factor() -> None:
    found = torch.tensor(MlpShape(1, 1, 64, composition=(30.0, 300.0)).frequencies)
    assert found[0] == 30
    assert found[-1] == pytest.approx(300)
    ratios = found[1:] / found[:-1]
    assert torch.allclose(ratios, torch.full_like(ratios, 10 ** (1 / 63)), rtol=1e-6)
    assert MlpShape(1, 1, 1, composition=(30.0, 300.0)).frequencies == [30.0]
    assert MlpShape(1, 1, 64).frequencies == []


def identity(columns: int = COLUMNS) -> tuple[MlpShape, Tensor]:
    """A network whose outputs are what the first hidden layer gives."""
    shape = MlpShape(columns, columns, columns, 1, composition=(1.0, 1000.0))
    return shape, torch.eye(columns).flatten().repeat(2)


def test_activations_follow_the_formula_up_to_four_thousand_radians() -> None:
    shape, weights = identity()
    z = torch.linspace(-4, 4, 500)[:, None].repeat(1, COLUMNS).requires_grad_()
    values = mlp(z, weights, shape)
    (slopes,) = torch.autograd.grad(values.sum(), z)
    m, exact = torch.tensor(shape.frequencies).double(), z.detach().double()
    # The angle is a float: half a last digit of 4096 is 2.4e-4.
    assert torch.allclose(values.double(), exact + torch.sin(m * exact), atol=5e-4)
    wanted = 1 + m * torch.cos(m * exact)
    assert ((slopes.double() - wanted).abs() <= 1e-6 + 5e-4 * m).all()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("activation", ["relu", "sine"])
@pytest.mark.parametrize("points", [1, 63, 1000])
def test_agreement_of_composed_layers(points: int, activation: str, precision: str) -> None:
    # Low frequencies: what rounding does to z is multiplied by them.
    shape = MlpShape(
        *(9, 3, 37, 2), activation=activation, bias=True, skips=(1,), composition=(0.5, 4.0)
    )
    x, weights = numbers(points, 9, seed=0), numbers(shape.parameters, seed=1) * 0.3
    gradient = numbers(points, 3, seed=2)

    def both(function) -> list[Tensor]:  # type: ignore[no-untyped-def]
        leaves = [x.clone().requires_grad_(), weights.clone().requires_grad_()]
        y = function(*leaves, shape, precision)
        return [y, *torch.autograd.grad(y, leaves, gradient)]

    for mine, reference in zip(both(mlp), both(mlp_reference), strict=True):
        error = (mine - reference).abs() / reference.abs().max()
        # As for the other activations in test_mlp.py, times the steepest slope, 5.
        assert (
            error.max()
            < (5 * 2 * 8 * 3 * max(points, 83) ** 0.5 * 2**-24, 5 * 2**-6)[precision == "bf16"]
        )


def test_derivatives_of_first_and_second_order() -> None:
    shape = MlpShape(3, 2, 5, 2, activation="sine", bias=True, composition=(0.5, 3.0))
    x = numbers(4, 3, seed=0).double().requires_grad_()
    flat = numbers(shape.parameters, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: mlp(x, w, shape), (x, flat))
    assert torch.autograd.gradgradcheck(lambda x, w: mlp(x, w, shape), (x, flat))


def test_second_derivatives_of_float32() -> None:
    """The graph of the gradient is the reference's, of a shape that came back from plain values."""
    shape = MlpShape(3, 2, 8, 1, bias=True, composition=(0.5, 3.0))
    x, flat = numbers(20, 3, seed=0), numbers(shape.parameters, seed=1)

    def second(x: Tensor, flat: Tensor) -> Tensor:
        x, flat = x.detach().requires_grad_(), flat.detach().requires_grad_()
        (slope,) = torch.autograd.grad(mlp(x, flat, shape).sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().mean(), flat)[0]

    wanted = second(x.double(), flat.double())
    # float32 rounding through two layers, twice
    assert (second(x, flat).double() - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_a_nan_is_not_hidden() -> None:
    shape, weights = identity(16)
    x = torch.ones(3, 16)
    x[1, 2] = torch.nan
    assert mlp(x, weights, shape).isnan().any(1).tolist() == [False, True, False]


def test_a_config_asks_for_it() -> None:
    config = MlpConfig(hidden=2, bias=True, composition=(10.0, 100.0))
    head = Mlp(config.shape(36, 3), torch.Generator().manual_seed(0))
    assert head.shape.composition == (10.0, 100.0)
    assert head(torch.zeros(2, 36)).shape == (2, 3)
    with pytest.raises(ConfigError, match="the lower first"):
        MlpConfig(composition=(100.0, 10.0)).shape(36, 3)
