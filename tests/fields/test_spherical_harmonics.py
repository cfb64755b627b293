import math

import numpy as np
import pytest
import torch
from torch import Tensor

from polyfield import native
from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.encoders import spherical_harmonics as encoder
from polyfield.fields.ops.spherical_harmonics import (
    spherical_harmonics,
    spherical_harmonics_reference,
)

# Every degree that the kernels have straight code for, and some of the general path, odd counts of points.
DEGREES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 25]

# Band 7 and bands 1 and 2 at (0.6, 0.48, 0.64), computed from factorials and Legendre functions in float64.
GOLDEN = {
    1: [-0.23452921, 0.31270561, -0.29316151],
    2: [0.31465395, -0.33563088, 0.07216159, -0.41953860, 0.07079714],
    7: [
        0.1118166,
        -0.27446734,
        0.13826734,
        0.23054184,
        0.00269138,
        -0.49467348,
        0.14180893,
        0.3163386,
        0.17726116,
        -0.11130153,
        -0.00131148,
        -0.48637924,
        0.58495573,
        -0.21475502,
        -0.0012074,
    ],
}


def unit_vectors(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    raw[: min(count, 6)] = torch.cat([torch.eye(3), -torch.eye(3)]).double()[
        : min(count, 6)
    ]  # poles
    return torch.nn.functional.normalize(raw, dim=-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_golden_values(dtype: torch.dtype) -> None:
    values = spherical_harmonics(torch.tensor([[0.6, 0.48, 0.64]], dtype=dtype), 8)[0]
    assert values[0].item() == pytest.approx(math.sqrt(1 / (4 * math.pi)), abs=1e-7)
    for band, golden in GOLDEN.items():
        # 5e-9 is the rounding of the printed digits, 1e-6 that of float32 after seven steps
        tolerance = 1e-6 if dtype == torch.float32 else 5.1e-9
        wanted = torch.tensor(golden, dtype=dtype)
        torch.testing.assert_close(
            values[band**2 : (band + 1) ** 2], wanted, rtol=0, atol=tolerance
        )


def test_polynomials_of_the_first_bands() -> None:
    """The hand-expanded forms, also for vectors that are not of length one."""
    d = torch.randn(50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x, y, z = d.unbind(-1)
    wanted = torch.stack(
        [
            0.28209479177 + 0 * x,
            -0.48860251190 * y,
            0.48860251190 * z,
            -0.48860251190 * x,
            1.09254843059 * x * y,
            -1.09254843059 * y * z,
            0.94617469576 * z * z - 0.31539156525,
            -1.09254843059 * x * z,
            0.54627421529 * (x * x - y * y),
        ],
        -1,
    )
    # eleven printed digits, times values up to about 20
    torch.testing.assert_close(spherical_harmonics(d, 3), wanted, rtol=1e-10, atol=1e-9)


def test_orthonormal_on_the_sphere() -> None:
    degree = 12
    nodes, weights = np.polynomial.legendre.leggauss(degree)  # exact to degree 2 * 12 - 1 in z
    angles = 2 * math.pi * np.arange(2 * degree) / (2 * degree)
    z = np.repeat(nodes, angles.size)
    radius = np.sqrt(1 - z * z)
    phi = np.tile(angles, nodes.size)
    d = torch.from_numpy(np.stack([radius * np.cos(phi), radius * np.sin(phi), z], -1))
    weight = torch.from_numpy(np.repeat(weights, angles.size)) * (math.pi / degree)
    values = spherical_harmonics(d, degree)
    gram = values.T @ (weight[:, None] * values)
    # sums of 288 products in float64
    torch.testing.assert_close(gram, torch.eye(degree**2, dtype=gram.dtype), rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_squares_of_a_band_sum_to_a_constant(dtype: torch.dtype) -> None:
    values = spherical_harmonics(unit_vectors(333).to(dtype), 25)
    tolerance = 2e-5 if dtype == torch.float32 else 1e-12  # float32: the bound of degree 25 below
    for band in range(25):
        total = values[:, band**2 : (band + 1) ** 2].square().sum(-1)
        wanted = torch.full_like(total, (2 * band + 1) / (4 * math.pi))
        torch.testing.assert_close(total, wanted, rtol=tolerance, atol=0)


@pytest.mark.parametrize(
    ("degree", "bound"), [(4, 1e-6), (8, 3e-6), (10, 4e-6), (25, 3e-5), (40, 1e-4)]
)
def test_error_of_float32(degree: int, bound: float) -> None:
    """The bounds the documentation gives; the exact values are those of the rounded directions."""
    d = unit_vectors(2000).float()
    exact = spherical_harmonics_reference(d.double(), degree)
    assert (spherical_harmonics(d, degree) - exact).abs().max().item() < bound
    assert (spherical_harmonics_reference(d, degree) - exact).abs().max().item() < bound


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("count", [1, 15, 16, 17, 1031])
def test_kernel_against_reference(degree: int, count: int) -> None:
    if not native.available():
        pytest.skip("the native module is switched off")
    d = unit_vectors(count, seed=count).float()
    g = torch.randn(count, degree**2, generator=torch.Generator().manual_seed(2))
    fast = d.clone().requires_grad_()
    slow = d.double().requires_grad_()
    values, wanted = spherical_harmonics(fast, degree), spherical_harmonics_reference(slow, degree)
    torch.testing.assert_close(values.double(), wanted, rtol=0, atol=3e-5)
    (to_fast,) = torch.autograd.grad(values, fast, g)
    (to_slow,) = torch.autograd.grad(wanted, slow, g.double())
    # a sum of degree^2 terms, each up to degree^1.5 in size, of the relative error 1e-6 of its factors
    torch.testing.assert_close(to_fast.double(), to_slow, rtol=1e-5, atol=1e-6 * degree**2.5 + 1e-6)


def test_gradcheck() -> None:
    d = unit_vectors(7).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: spherical_harmonics(v, 6), d)
    assert torch.autograd.gradgradcheck(lambda v: spherical_harmonics(v, 4), d)


@pytest.mark.parametrize("degree", [1, 2, 4, 10])
def test_second_derivative_of_the_kernel(degree: int) -> None:
    d = unit_vectors(40)

    def second(v: Tensor) -> Tensor:
        v = v.clone().requires_grad_()
        (first,) = torch.autograd.grad(
            spherical_harmonics(v, degree).sin().sum(), v, create_graph=True
        )
        (result,) = torch.autograd.grad(first.square().sum(), v)
        return result

    wanted = second(d)
    # values of degree 10 are up to 1e4 here; 1e-5 of the largest
    torch.testing.assert_close(
        second(d.float()).double(), wanted, rtol=1e-4, atol=1e-5 * (1 + wanted.abs().max().item())
    )


def test_same_bits_for_any_cut_into_batches() -> None:
    d = unit_vectors(1000).float()
    whole = spherical_harmonics(d, 8)
    assert torch.equal(whole, torch.cat([spherical_harmonics(part, 8) for part in d.split(37)]))


def test_operator_registrations() -> None:
    if not native.available():
        pytest.skip("the native module is switched off")
    d = unit_vectors(5).float().requires_grad_()
    torch.library.opcheck(torch.ops.polyfield.spherical_harmonics.default, (d, 4))


def test_takes_views_and_nothing() -> None:
    d = unit_vectors(9).float()
    wide = torch.zeros(9, 5)
    wide[:, 1:4] = d
    assert torch.equal(spherical_harmonics(wide[:, 1:4], 4), spherical_harmonics(d, 4))
    assert spherical_harmonics(d[:0], 4).shape == (0, 16)


def test_wrong_input_is_told() -> None:
    with pytest.raises(ShapeError) as error:
        spherical_harmonics(torch.zeros(4, 2), 3)
    assert str(error.value) == (
        "spherical_harmonics: directions must be floats of shape [N, 3], "
        "but are torch.float32 of shape [4, 2]."
    )
    with pytest.raises(ShapeError, match="degree must be at least 1, but is 0"):
        spherical_harmonics(torch.zeros(4, 3), 0)


def test_encoder() -> None:
    made = encoder.build(encoder.Config(degree=3), 3, torch.Generator())
    d = unit_vectors(5).float()
    assert made.out_dim == 9
    assert made.groups() == []
    assert torch.equal(made(d), spherical_harmonics(d, 3))
    with pytest.raises(ConfigError, match="3 coordinates, not of 2"):
        encoder.build(encoder.Config(), 2, torch.Generator())
    with pytest.raises(ConfigError, match="degree must be at least 1"):
        encoder.Config(degree=0)
