from typing import Any

import pytest
import torch
from torch import Tensor

from polyfield import native
from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.heads.mlp import Mlp, MlpConfig
from polyfield.fields.ops.mlp import MlpShape, mlp, mlp_reference, native_shape

PRECISIONS = ["fp32", "bf16"]
# Sizes with and without padding, one vector and many, every depth of skip, points around the panel of 64.
SHAPES = [
    (MlpShape(32, 16, 64, 2), 1000),
    (MlpShape(3, 1, 16, 1, bias=True), 1),
    (MlpShape(33, 17, 37, 3, skips=(2,), bias=True), 63),
    (MlpShape(63, 4, 48, 8, skips=(1, 5, 8), bias=True), 65),
    (MlpShape(5, 40, 256, 2, skips=(1,)), 257),
    (MlpShape(130, 3, 80, 1, bias=True), 1025),
]


def name_of(value: object) -> str:
    if isinstance(value, MlpShape):
        return f"{value.inputs}-{value.hidden}x{value.width}-{value.outputs}"
    return str(value)


def numbers(*size: int, seed: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def whole_numbers(*size: int, seed: int, keep: float = 1.0) -> Tensor:
    """Integers in -2..2, all but a share of `keep` of them zero."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-2, 3, size, generator=generator).float()
    return values * (torch.rand(size, generator=generator) < keep)


def gradients(run: Any, inputs: list[Tensor], gradient: Tensor) -> list[Tensor]:
    leaves = [t.detach().requires_grad_() for t in inputs]
    result = run(*leaves)
    return [result, *torch.autograd.grad(result, leaves, gradient)]


# Laws of the reference


def test_reference_is_a_stack_of_linear_layers() -> None:
    shape = MlpShape(3, 2, 16, 2, skips=(1,), bias=True)
    flat = numbers(shape.parameters, seed=0).double()
    x = numbers(7, 3, seed=1).double()
    (w0, w1, w2), (b0, b1, b2) = shape.split(flat), shape.biases(flat)
    assert [w.shape for w in (w0, w1, w2)] == [(16, 3), (16, 19), (2, 16)]
    h = torch.relu(x @ w0.T + b0)
    h = torch.relu(h @ w1[:, :16].T + x @ w1[:, 16:].T + b1)
    # float64 rounding over sums of at most 19 terms
    torch.testing.assert_close(mlp(x, flat, shape), h @ w2.T + b2, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("activation", "scale", "function"),
    [
        ("none", 1.0, lambda z: z),
        ("relu", 1.0, torch.relu),
        ("sine", 30.0, lambda z: torch.sin(30 * z)),
        ("softplus", 100.0, lambda z: torch.nn.functional.softplus(z, beta=100)),
        ("gaussian", 3.0, lambda z: torch.exp(-1.5 * z.clamp(min=0))),
    ],
)
def test_activations(activation: str, scale: float, function: Any) -> None:
    """An identity matrix on both sides leaves the activation alone, over its whole range."""
    shape = MlpShape(16, 16, 16, 1, activation=activation, scale=scale)
    weights = torch.eye(16).flatten().repeat(2)
    z = torch.linspace(-40, 40, 1600).view(100, 16)
    run = lambda z, w: mlp(z, w, shape)  # noqa: E731
    values, slopes, _ = gradients(run, [z, weights], torch.ones(100, 16))
    exact = z.double().requires_grad_()
    wanted = function(exact)
    (wanted_slopes,) = torch.autograd.grad(wanted.sum(), exact)
    # The angle scale z, up to 1200, is a float32: half a last digit of it is 6e-5; elsewhere a few last digits.
    tolerance = 1e-4 if activation == "sine" else 2e-6
    torch.testing.assert_close(values.double(), wanted.detach(), rtol=2e-6, atol=tolerance)
    torch.testing.assert_close(
        slopes.double() / scale, wanted_slopes / scale, rtol=2e-6, atol=tolerance
    )


@pytest.mark.parametrize("activation", ["none", "sine", "softplus", "gaussian"])
def test_gradients_of_first_and_second_order(activation: str) -> None:
    shape = MlpShape(4, 2, 5, 2, activation=activation, scale=1.5, skips=(1,), bias=True)
    x, condition = numbers(6, 3, seed=0).double(), numbers(2, 1, seed=1).double()
    flat = numbers(shape.parameters, seed=2).double()
    rows = torch.tensor([0, 1, 1, 0, 1, 0], dtype=torch.int32)
    inputs = [t.requires_grad_() for t in (x, flat, condition)]

    def run(x: Tensor, flat: Tensor, condition: Tensor) -> Tensor:
        return mlp(x, flat, shape, condition=condition, rows=rows)

    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


# Kernels against the reference


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("shape", "points"), SHAPES, ids=name_of)
def test_agreement_on_whole_numbers_is_exact(shape: MlpShape, points: int, precision: str) -> None:
    """Sums of integers below 2^24 are exact in any order, so every path must give the same bits, rounding included."""
    share = (
        1.5 / shape.width
    )  # about one and a half weights in a row: numbers stay small through eight layers
    weights = whole_numbers(shape.parameters, seed=0, keep=share)
    x = whole_numbers(points, shape.inputs, seed=1)
    gradient = whole_numbers(points, shape.outputs, seed=2)
    for layout in (lambda t: t, lambda t: t.t().contiguous().t()):
        inputs = [layout(x), weights]
        found = gradients(lambda x, w: mlp(x, w, shape, precision), inputs, layout(gradient))
        wanted = gradients(
            lambda x, w: mlp_reference(x, w, shape, precision), [x, weights], gradient
        )
        for mine, reference in zip(found, wanted, strict=True):
            assert reference.abs().max() < 2**24
            assert torch.equal(mine, reference)
    assert all(reference.any() for reference in wanted) or points == 1


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("activation", ["relu", "sine", "softplus", "gaussian"])
@pytest.mark.parametrize(("shape", "points"), SHAPES, ids=name_of)
def test_agreement(shape: MlpShape, points: int, activation: str, precision: str) -> None:
    scale = {"sine": 2.0, "gaussian": 1.0}.get(activation, 5.0)
    shape = MlpShape(
        *(shape.inputs, shape.outputs, shape.width, shape.hidden),
        activation=activation,
        scale=scale,
        skips=shape.skips,
        bias=shape.bias,
    )
    weights = numbers(shape.parameters, seed=0) * (1.2 / shape.width**0.5)
    x = numbers(points, shape.inputs, seed=1)
    gradient = numbers(points, shape.outputs, seed=2)
    found = gradients(lambda x, w: mlp(x, w, shape, precision), [x, weights], gradient)
    wanted = gradients(lambda x, w: mlp_reference(x, w, shape, precision), [x, weights], gradient)
    for mine, reference in zip(found, wanted, strict=True):
        error = (mine - reference).abs() / reference.abs().max()
        if precision == "fp32":
            # Rounding in sums of K terms walks about sqrt(K) steps of 2^-24; eight times that in each layer, there and
            # back, is far outside what happens by chance and far inside what one term left out would do.
            longest = max(points, 2 * shape.width + shape.inputs)
            assert error.max() < 2 * 8 * (shape.hidden + 1) * longest**0.5 * 2**-24
        else:
            # As above, and a value that falls near the middle of two bfloat16 may go either way: then one term of a sum
            # moves by 2^-8 of itself. Rare, so the largest error may be of that size but the mean may not.
            assert error.max() < 2**-6
            assert error.mean() < 2**-11


def test_bf16_rounds_operands_to_nearest_even() -> None:
    shape = MlpShape(1, 1, 1, 1, activation="none")
    one = torch.ones(shape.parameters)
    eighth = 2.0**-8  # half the distance between bfloat16 numbers above one
    x = torch.tensor([[1 + eighth], [1 + 3 * eighth], [1 + 1.01 * eighth], [-1 - eighth]])
    wanted = torch.tensor([[1.0], [1 + 4 * eighth], [1 + 2 * eighth], [-1.0]])
    assert torch.equal(mlp(x, one, shape, "bf16"), wanted)
    assert torch.equal(mlp(x, one, shape), x)


# What callers rely on


@pytest.mark.parametrize("points", [0, 1, 2, 63, 64, 65, 2049])
def test_layouts_give_the_same_bits(points: int) -> None:
    """Row-major, feature-major and slices of either; the output is laid out as the input is."""
    if not native.available():
        pytest.skip("the native module is not there, and torch sums other layouts in another order")
    shape = MlpShape(19, 5, 32, 2, bias=True)
    weights = numbers(shape.parameters, seed=0)
    x, gradient = numbers(points, 19, seed=1), numbers(points, 5, seed=2)
    run = lambda x, w: mlp(x, w, shape)  # noqa: E731
    wanted = gradients(run, [x, weights], gradient)
    assert wanted[0].is_contiguous()
    wide = torch.cat([x, x], dim=1)
    for view in (x.t().contiguous().t(), wide[:, :19], wide.t().contiguous()[:19].t()):
        for grad in (gradient, gradient.t().contiguous().t()):
            found = gradients(run, [view, weights], grad)
            assert all(map(torch.equal, found, wanted))
    if points > 1:
        assert mlp(x.t().contiguous().t(), weights, shape).t().is_contiguous()
    strange = torch.cat([x, x], dim=1).repeat_interleave(2, dim=1)[:, :38:2]
    assert torch.equal(run(strange, weights), wanted[0])


@pytest.mark.parametrize("columns", [1, 4, 16, 21])
def test_condition_is_a_gathered_part_of_the_input(columns: int) -> None:
    shape = MlpShape(11 + columns, 3, 32, 2, skips=(1,))
    weights = numbers(shape.parameters, seed=0)
    x, condition = numbers(300, 11, seed=1), numbers(9, columns, seed=2)
    rows = torch.randint(9, (300,), generator=torch.Generator().manual_seed(3), dtype=torch.int32)
    gradient = numbers(300, 3, seed=4)

    def fused(x: Tensor, w: Tensor, c: Tensor) -> Tensor:
        return mlp(x, w, shape, condition=c, rows=rows)

    def laid_out(x: Tensor, w: Tensor, c: Tensor) -> Tensor:
        return mlp(torch.cat([x, c[rows]], dim=1), w, shape)

    found = gradients(fused, [x, weights, condition], gradient)
    wanted = gradients(laid_out, [x, weights, condition], gradient)
    for mine, other in zip(found[:3], wanted[:3], strict=True):
        assert torch.equal(mine, other)
    # about 33 gradients, themselves a few last digits apart, are added to each row in another order
    error = (found[3] - wanted[3]).abs().max() / wanted[3].abs().max()
    assert error < 33 * 2**-23


def test_same_thread_count_same_bits() -> None:
    shape = MlpShape(32, 16, 64, 2, bias=True)
    weights, x = numbers(shape.parameters, seed=0), numbers(5000, 32, seed=1)
    gradient = numbers(5000, 16, seed=2)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            first, *others = (
                gradients(lambda x, w: mlp(x, w, shape, "bf16"), [x, weights], gradient)
                for _ in range(4)
            )
            assert all(all(map(torch.equal, first, other)) for other in others)
    finally:
        torch.set_num_threads(before)


def test_a_nan_is_not_hidden() -> None:
    shape = MlpShape(4, 2, 16, 1)
    x = torch.ones(3, 4)
    x[1, 2] = torch.nan
    for precision in PRECISIONS:
        result = mlp(x, numbers(shape.parameters, seed=0), shape, precision)
        assert result.isnan().all(dim=1).tolist() == [False, True, False]


def test_second_derivatives_of_float32() -> None:
    """As an eikonal loss takes them: the gradient by the input, then its own gradient by the weights."""
    shape = MlpShape(3, 1, 32, 2, activation="softplus", scale=10.0, bias=True)
    flat, x = numbers(shape.parameters, seed=0) * 0.3, numbers(50, 3, seed=1)

    def second(flat: Tensor, x: Tensor) -> Tensor:
        flat, x = flat.detach().requires_grad_(), x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(mlp(x, flat, shape).sum(), x, create_graph=True)
        return torch.autograd.grad((slope.norm(dim=1) - 1).square().mean(), flat)[0]

    wanted = second(flat.double(), x.double())
    # float32 rounding through three layers, twice, amplified by the scale of 10
    error = (second(flat, x).double() - wanted).abs().max() / wanted.abs().max()
    assert error < 1e-5


def test_operator_contract() -> None:
    """Torch's own checks: schema, fake tensors, autograd registration, both layouts, with and without a condition."""
    if not native.available():
        pytest.skip("the native module is not there")
    shape = MlpShape(6, 2, 16, 1, bias=True)
    weights = numbers(shape.parameters, seed=0).requires_grad_()
    sizes, scales = [6, 2, 16, 1, 1, 1, 0, 0], [1.0, 0.0, 0.0]
    rows = torch.tensor([0, 1, 1, 0, 1], dtype=torch.int32)
    for x in (numbers(5, 6, seed=1), numbers(6, 5, seed=1).t()):
        arguments = (x.requires_grad_(), weights, None, None, sizes, scales, False, 5)
        torch.library.opcheck(torch.ops.polyfield.mlp.default, arguments)
    inputs = numbers(5, 4, seed=2), weights, numbers(2, 2, seed=3), rows
    conditioned = (*inputs, sizes, scales, True, 5)
    torch.library.opcheck(torch.ops.polyfield.mlp.default, conditioned)


def test_module_starts_from_known_distributions() -> None:
    shape = MlpConfig(width=32, hidden=2, skips=(1,), bias=True).shape(3, 5)
    head = Mlp(shape, torch.Generator().manual_seed(0))
    for matrix in shape.split(head.weights.detach()):
        edge = (6 / sum(matrix.shape)) ** 0.5
        assert 0.9 * edge < matrix.abs().max() < edge
        assert abs(matrix.mean()) < 0.15 * edge  # 0.58 / sqrt(96), twice
    assert not any(bias.any() for bias in shape.biases(head.weights.detach()))
    again = Mlp(shape, torch.Generator().manual_seed(0))
    assert torch.equal(head.weights, again.weights)
    siren = MlpConfig(64, 2, "sine", 30.0, bias=True).shape(2, 3)
    first, second, third = siren.split(Mlp(siren, torch.Generator().manual_seed(0)).weights)
    assert 0.45 < first.abs().max() < 0.5
    for matrix in (second, third):
        assert 0.9 < matrix.abs().max() * 30 / (6 / 64) ** 0.5 < 1


# Messages


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 0}, "MLP: width must be in 1..512, but is 0."),
        ({"hidden": 9}, "MLP: hidden must be in 1..8, but is 9."),
        ({"activation": "rleu"}, "MLP: there is no activation 'rleu'. Did you mean 'relu'?"),
        ({"skips": (3,)}, "MLP: skips must be ascending layers in 1..2, but is (3,)."),
        ({"scale": 0.0}, "MLP: scale must be above 0, but is 0.0."),
        (
            {"composition": (10.0,)},
            "MLP: composition must be empty or two frequencies above 0, the lower first, but is (10.0,).",
        ),
        (
            {"output_activation": "relu"},
            "MLP: output_activation must be 'none' or 'sigmoid', but is 'relu'; apply others to the result.",
        ),
    ],
)
def test_shape_messages(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MlpShape(3, 1, **values)
    assert str(caught.value) == message


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.complex64])
def test_what_is_not_of_floats_is_refused(dtype: torch.dtype) -> None:
    shape = MlpShape(4, 1, 16, 1)
    x, weights = torch.ones(2, 4), torch.ones(shape.parameters)
    condition, rows = torch.ones(1, 1, dtype=dtype), torch.zeros(2, dtype=torch.int32)
    for name, call in (
        ("x", lambda: mlp(x.to(dtype), weights, shape)),
        ("weights", lambda: mlp(x, weights.to(dtype), shape)),
        ("condition", lambda: mlp(x[:, :3], weights, shape, condition=condition, rows=rows)),
    ):
        with pytest.raises(ShapeError, match=f"mlp: {name} must be of floats, but is {dtype} "):
            call()


@pytest.mark.skipif(not native.available(), reason="the native module is not there")
def test_the_kernel_finds_no_row_in_an_empty_condition() -> None:
    """It has no address, as no condition at all has none."""
    shape = MlpShape(4, 1, 16, 1)
    x, weights, y = torch.ones(2, 3), torch.ones(shape.parameters), torch.empty(2, 1)
    rows = torch.zeros(2, dtype=torch.int32)
    place = (x.data_ptr(), 3, 1), 3, 0, rows.data_ptr(), 0, 1
    sizes, out = native_shape(shape), (y.data_ptr(), 1, 1)
    assert not native.core().mlp_forward(sizes, place, weights.data_ptr(), False, out, 2, 0, 0)


def test_call_messages() -> None:
    shape = MlpShape(4, 1, 16, 1)
    x, weights = torch.ones(2, 4), torch.ones(shape.parameters)
    rows = torch.zeros(2, dtype=torch.int32)
    cases: list[tuple[type[Exception], str, Any]] = [
        (
            ShapeError,
            "mlp: x and condition must have 4 columns together, but have 3.",
            lambda: mlp(x[:, :3], weights, shape),
        ),
        (
            ShapeError,
            "mlp: weights must have the shape [80], but are [79].",
            lambda: mlp(x, weights[1:], shape),
        ),
        (
            ShapeError,
            "mlp: condition and rows must be given together.",
            lambda: mlp(x, weights, shape, rows=rows),
        ),
        (
            ConfigError,
            "mlp: there is no precision 'fp16'. Did you mean 'bf16'?",
            lambda: mlp(x, weights, shape, "fp16"),
        ),
        (
            ShapeError,
            "mlp: x must have the shape [N, columns], but is [4].",
            lambda: mlp(x[0], weights, shape),
        ),
        (
            ShapeError,
            "mlp: condition must have the shape [R, c] and rows be int32 of shape [2], "
            "but are [1, 1] and torch.int64 of shape [2].",
            lambda: mlp(x[:, :3], weights, shape, condition=x[:1, :1], rows=rows.long()),
        ),
        (
            ShapeError,
            "mlp: 2 points ask for rows of condition, but it has none.",
            lambda: mlp(x[:, :3], weights, shape, condition=x[:0, :1], rows=rows),
        ),
    ]
    if native.available():  # torch's own message otherwise
        cases.append(
            (
                ShapeError,
                "mlp: rows must be in 0..0, but hold 0..1.",
                lambda: mlp(
                    x[:, :3],
                    weights,
                    shape,
                    condition=x[:1, :1],
                    rows=torch.tensor([0, 1], dtype=torch.int32),
                ),
            )
        )
    for kind, message, call in cases:
        with pytest.raises(kind) as caught:
            call()
        assert str(caught.value) == message
