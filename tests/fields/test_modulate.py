"""Modulated rows: against torch's layer norm, and the kernel against the reference."""

import pytest
import torch
from torch import Generator, Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.ops.modulate import modulate, modulate_reference

COLUMNS = [1, 5, 16, 37, 256]
SIZES = [0, 1, 7, 1000]

both_norms = pytest.mark.parametrize("normalise", [True, False])


def case(
    points: int, columns: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    generator = Generator().manual_seed(columns)
    z = 2 * torch.randn(points, columns, generator=generator, dtype=dtype) + 1
    pairs = 1 + torch.randn(points, 2, generator=generator, dtype=dtype)
    return z, pairs[:, 0], pairs[:, 1]


def results(function, inputs, normalise: bool, dtype: torch.dtype) -> list[Tensor]:  # type: ignore[no-untyped-def]
    leaves = [t.detach().to(dtype).requires_grad_() for t in inputs]
    y = function(*leaves, normalise)
    upstream = torch.randn(y.shape, generator=Generator().manual_seed(1)).to(dtype)
    return [y, *torch.autograd.grad(y, leaves, upstream)]


@pytest.mark.parametrize("columns", COLUMNS)
def test_with_one_and_zero_it_is_a_layer_norm(columns: int) -> None:
    z, _, _ = case(100, columns)
    found = modulate(z, torch.ones(100), torch.zeros(100))
    wanted = torch.relu(torch.nn.functional.layer_norm(z.double(), (columns,), eps=1e-5))
    # Rounding in the mean and the variance, some last digits of numbers of up to ten.
    assert torch.allclose(found.double(), wanted, atol=1e-5)
    assert torch.equal(modulate(z, torch.ones(100), torch.zeros(100), False), z.relu())


@both_norms
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("points", SIZES)
def test_kernel_and_reference_agree(points: int, columns: int, normalise: bool) -> None:
    inputs = case(points, columns)
    found = results(modulate, inputs, normalise, torch.float32)
    wanted = results(modulate_reference, inputs, normalise, torch.float64)
    # What is next to the cut may fall to either side; there the gradients differ by one column's share. No such column
    # is in these cases but in the largest, where it is one of a quarter of a million.
    for mine, exact in zip(found, wanted, strict=True):
        scale = float(exact.detach().abs().max()) if exact.numel() else 1.0
        off = (mine.double() - exact).abs() > 3e-6 * scale
        assert off.sum() <= (2 + columns if mine.numel() > 100_000 else 0)


@both_norms
def test_derivatives_of_the_reference(normalise: bool) -> None:
    leaves = [t.clone().requires_grad_() for t in case(4, 5, torch.float64)]
    run = lambda *t: modulate_reference(*t, normalise)  # noqa: E731
    assert torch.autograd.gradcheck(run, leaves)
    assert torch.autograd.gradgradcheck(run, leaves)


@both_norms
def test_second_derivatives_are_those_of_the_reference(normalise: bool) -> None:
    found = []
    for function, dtype in ((modulate, torch.float32), (modulate_reference, torch.float64)):
        leaves = [t.detach().to(dtype).requires_grad_() for t in case(30, 12)]
        y = function(*leaves, normalise)
        slopes = torch.autograd.grad((y**2).sum(), leaves, create_graph=True)
        loss = sum(slope.square().sum() for slope in slopes)
        found.append(torch.autograd.grad(loss, leaves))
    for mine, exact in zip(*found, strict=True):
        assert torch.allclose(mine.double(), exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))


def test_a_mean_far_from_zero_does_no_harm() -> None:
    """Columns past a row's end in a vector must not count: they would lie a hundred from the mean."""
    z, _, _ = case(50, 37)
    ones, zeros = torch.ones(50), torch.zeros(50)
    # z + 100 has lost 6 bits of z.
    assert torch.allclose(modulate(z + 100, ones, zeros), modulate(z, ones, zeros), atol=3e-5)


@both_norms
def test_layouts_and_threads_change_no_bit(normalise: bool) -> None:
    if not native.available():
        pytest.skip("the native module is not there, and torch sums other layouts in another order")
    z, scale, shift = case(2000, 37)
    wanted, threads = modulate(z, scale, shift, normalise), torch.get_num_threads()
    assert torch.equal(modulate(z, scale.contiguous(), shift, normalise), wanted)
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found = results(modulate, (z, scale, shift), normalise, torch.float32)
            other = results(
                modulate, (z.t().contiguous().t(), scale, shift), normalise, torch.float32
            )
            assert torch.equal(found[0], wanted)
            assert all(map(torch.equal, found, other))
    finally:
        torch.set_num_threads(threads)


@both_norms
def test_a_nan_stays_in_its_row(normalise: bool) -> None:
    z, scale, shift = case(5, 20)
    z[2, 3] = torch.nan
    found = modulate(z, scale, shift, normalise)
    assert found[2].isnan().sum() == (20 if normalise else 1)
    assert found[[0, 1, 3, 4]].isfinite().all()


def test_operator_contract() -> None:
    if not native.available():
        pytest.skip("the native module is not there")
    for normalise in (True, False):
        leaves = [t.clone().requires_grad_() for t in case(5, 7)]
        torch.library.opcheck(torch.ops.polyfield.modulate.default, (*leaves, normalise))


@pytest.mark.parametrize(
    ("z", "scale", "sentence"),
    [
        (torch.zeros(3, 4), torch.zeros(2), r"z must be \[N, C\].* \[3, 4\], \[2\] and \[2\]"),
        (torch.zeros(3), torch.zeros(3), r"z must be \[N, C\]"),
        (torch.zeros(3, 0), torch.zeros(3), "at least one column"),
        (torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3), "z must be of floats"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(z: Tensor, scale: Tensor, sentence: str) -> None:
    with pytest.raises(ShapeError, match=sentence):
        modulate(z, scale, scale)
