import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyfield import native
from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.encoders import frequency as encoder
from polyfield.fields.ops.frequency import frequency, frequency_reference


def points(count: int, dim: int) -> Tensor:
    return torch.rand(count, dim, generator=torch.Generator().manual_seed(count)) * 2 - 1


def exact(x: Tensor, octaves: int, include_input: bool) -> Tensor:
    """The definition in float64: 2^16 pi x is then good to 1e-11."""
    x = x.double()
    parts = [x] if include_input else []
    for k in range(octaves):
        parts += [torch.sin(math.pi * 2**k * x), torch.cos(math.pi * 2**k * x)]
    return torch.cat(parts, -1)


def test_golden_values() -> None:
    got = frequency(torch.tensor([[0.5, 1 / 6]]), 2, include_input=True)[0]
    third = math.sqrt(3) / 2
    wanted = [0.5, 1 / 6, 1, 0.5, 0, third, 0, third, -1, 0.5]
    torch.testing.assert_close(got, torch.tensor(wanted), rtol=0, atol=2e-7)  # 1/6 is rounded


@pytest.mark.parametrize(
    ("dim", "octaves", "include_input"),
    [(1, 1, True), (2, 16, False), (3, 10, True), (5, 4, False)],
)
@pytest.mark.parametrize("count", [1, 17, 700])
def test_values_and_gradient(dim: int, octaves: int, include_input: bool, count: int) -> None:
    x = points(count, dim)
    wanted = exact(x, octaves, include_input)
    # 2 units in the last place below 1 from the kernel; the reference rounds the angle before the sine
    bound = 1.2e-7 if native.available() else 4e-7
    got = frequency(x.requires_grad_(), octaves, include_input)
    assert (got - wanted).abs().max().item() < bound
    assert (frequency_reference(x, octaves, include_input) - wanted).abs().max().item() < 4e-7
    g = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(3))
    (to_x,) = torch.autograd.grad(got, x, g)
    slow = x.detach().double().requires_grad_()
    (to_slow,) = torch.autograd.grad(
        frequency_reference(slow, octaves, include_input), slow, g.double()
    )
    # terms up to 2^octaves pi times a normal number, each to 4e-7
    torch.testing.assert_close(to_x.double(), to_slow, rtol=1e-6, atol=1e-5 * 2**octaves)


@settings(max_examples=50, deadline=None)
@given(st.floats(-(2.0**100), 2.0**100, width=32))
def test_circle_and_doubling(x: float) -> None:
    """sin^2 + cos^2 = 1, and octave k is octave 0 at 2^k x: exact, since the reduction is."""
    value = torch.tensor([[x]])
    sines, cosines = frequency(value, 5)[0].view(5, 2).unbind(-1)
    torch.testing.assert_close(sines**2 + cosines**2, torch.ones(5), rtol=0, atol=1e-6)
    again = frequency(value * 16, 1)[0]
    assert torch.equal(again, torch.stack([sines[4], cosines[4]]))


def test_far_away_and_not_numbers() -> None:
    got = frequency(torch.tensor([[3e38], [float("inf")], [float("nan")]]), 2)
    assert got[0, :2].tolist() == [0, 1]  # an even number of half turns; twice 3e38 is too much
    assert got[0, 2:].isnan().all()
    assert got[1:].isnan().all()


def test_gradcheck() -> None:
    x = points(6, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: frequency(v, 3, True), x)
    assert torch.autograd.gradgradcheck(lambda v: frequency(v, 2, True), x)


def test_second_derivative_of_the_kernel() -> None:
    def second(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        (first,) = torch.autograd.grad(frequency(x, 3).exp().sum(), x, create_graph=True)
        (result,) = torch.autograd.grad(first.square().sum(), x)
        return result

    wanted = second(points(30, 2).double())
    torch.testing.assert_close(
        second(points(30, 2)).double(), wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item()
    )


def test_operator_registrations() -> None:
    if not native.available():
        pytest.skip("the native module is switched off")
    torch.library.opcheck(
        torch.ops.polyfield.frequency.default, (points(5, 2).requires_grad_(), 4, True)
    )


def test_wrong_input_is_told() -> None:
    with pytest.raises(ShapeError) as error:
        frequency(torch.zeros(4), 3)
    assert str(error.value) == (
        "frequency: x must be floats of shape [N, D], but is torch.float32 of shape [4]."
    )
    for octaves in (-1, 0, 65):
        with pytest.raises(
            ShapeError, match=f"1 to 64, or 0 with the input included, but is {octaves}"
        ):
            frequency(torch.zeros(4, 2), octaves)


def test_encoder() -> None:
    made = encoder.build(encoder.Config(octaves=4), 2, torch.Generator())
    x = points(5, 2)
    assert made.out_dim == 18
    assert made.groups() == []
    assert torch.equal(made(x), frequency(x, 4, include_input=True))
    with pytest.raises(ConfigError, match="1 to 64, but is 0"):
        encoder.Config(octaves=0)
