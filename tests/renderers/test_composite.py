import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.renderers.composite import (
    Composite,
    composite,
    composite_reference,
    visible,
    visible_reference,
)

BOTH = [composite, composite_reference]
OUTPUTS = ("color", "depth", "opacity", "left", "weights")


def batch(counts: list[int], seed: int = 0, density: float = 5.0) -> dict[str, Tensor]:
    """Rays with these numbers of samples; intervals touch or leave gaps."""
    g = torch.Generator().manual_seed(seed)
    total = sum(counts)
    offsets = torch.tensor([0, *counts]).cumsum(0)
    t0, t1 = torch.empty(total), torch.empty(total)
    for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        edges = torch.cumsum(torch.rand(2 * (end - begin), generator=g) * 0.1 + 0.01, 0)
        t0[begin:end], t1[begin:end] = edges[::2], edges[1::2]
    return {
        "sigma": torch.rand(total, generator=g) * density,
        "rgb": torch.rand(total, 3, generator=g),
        "t0": t0,
        "t1": t1,
        "ray_offsets": offsets,
        "background": torch.rand(len(counts), 3, generator=g),
    }


def doubled(data: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.double() if v.is_floating_point() else v for k, v in data.items()}


COUNTS = [[3, 0, 1, 17, 16, 0], [0], [], [1], [700, 2, 300], [5] * 200]


@pytest.mark.parametrize("counts", COUNTS, ids=lambda c: f"{len(c)}rays{sum(c)}samples")
@pytest.mark.parametrize("threads", [1, 2])
def test_kernel_agrees_with_the_reference(counts: list[int], threads: int) -> None:
    torch.set_num_threads(threads)
    data = batch(counts)
    ours, truth = composite(**data), composite_reference(**doubled(data))
    for name in OUTPUTS:
        # Products of up to 700 transmittances, each right to 2 ulp, sums of as many weights: 1e-4 of a weight.
        torch.testing.assert_close(
            getattr(ours, name).double(), getattr(truth, name), rtol=1e-4, atol=2e-6
        )


@pytest.mark.parametrize("counts", [[3, 0, 1, 17], [5] * 100, [700, 40]], ids=len)
@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_agree_with_the_reference(counts: list[int], threads: int) -> None:
    torch.set_num_threads(threads)
    data = batch(counts, seed=1)
    g = torch.Generator().manual_seed(2)
    wanted = ("sigma", "rgb", "background")
    cotangents = [torch.randn(getattr(composite(**data), n).shape, generator=g) for n in OUTPUTS]

    def gradients(function, data: dict[str, Tensor], chosen: tuple[int, ...]) -> list[Tensor]:
        leaves = {k: v.clone().requires_grad_() if k in wanted else v for k, v in data.items()}
        out = function(**leaves)
        outputs = [getattr(out, OUTPUTS[i]) for i in chosen]
        return list(
            torch.autograd.grad(
                outputs,
                [leaves[k] for k in wanted],
                [cotangents[i].to(outputs[0].dtype) for i in chosen],
                allow_unused=True,
                materialize_grads=True,
            )
        )

    for chosen in ((0, 1, 2, 3, 4), (0,), (1,), (2,), (3,), (4,)):
        ours = gradients(composite, data, chosen)
        truth = gradients(composite_reference, doubled(data), chosen)
        for name, one, other in zip(wanted, ours, truth, strict=True):
            # The gradient to a density is a difference of sums of up to 700 weights: rounding stays below 1e-5 of
            # their size, which is about 1.
            torch.testing.assert_close(
                one.double(), other, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_gradcheck_of_the_reference() -> None:
    data = doubled(batch([3, 0, 4]))
    leaves = [data[k].requires_grad_() for k in ("sigma", "rgb", "background")]

    def run(sigma: Tensor, rgb: Tensor, background: Tensor) -> tuple[Tensor, ...]:
        out = composite_reference(
            sigma, rgb, data["t0"], data["t1"], data["ray_offsets"], background
        )
        return tuple(getattr(out, name) for name in OUTPUTS)

    assert torch.autograd.gradcheck(run, leaves)


@pytest.mark.filterwarnings("ignore::UserWarning")  # opcheck itself sets deprecated switches
@pytest.mark.skipif(not native.available(), reason="checks the native operator")
def test_operator_is_registered_in_full() -> None:
    data = batch([3, 0, 4])
    leaves = {
        k: v.requires_grad_() if k in ("sigma", "rgb", "background") else v for k, v in data.items()
    }
    torch.library.opcheck(torch.ops.polyfield.composite.default, tuple(leaves.values()))


@pytest.mark.parametrize("function", BOTH)
def test_constant_density_has_a_closed_form(function) -> None:
    edges = torch.linspace(1.0, 3.0, 41)
    sigma = torch.full((40,), 0.7)
    out: Composite = function(
        sigma,
        torch.ones(40, 3),
        edges[:-1],
        edges[1:],
        torch.tensor([0, 40]),
        torch.zeros(1, 3),
    )
    expected = torch.exp(-0.7 * (edges[:-1] - 1)) - torch.exp(-0.7 * (edges[1:] - 1))
    # Forty steps of 2 ulp each, and the ends themselves are rounded.
    torch.testing.assert_close(out.weights, expected, rtol=2e-5, atol=0)
    assert out.left.item() == pytest.approx(math.exp(-1.4), rel=1e-5)
    assert out.color[0].tolist() == pytest.approx([1 - math.exp(-1.4)] * 3, rel=1e-5)


@pytest.mark.parametrize("function", BOTH)
@settings(max_examples=20, deadline=None)
@given(
    counts=st.lists(st.integers(0, 40), max_size=8),
    density=st.sampled_from([0.0, 1e-6, 1.0, 1e4, 1e30, math.inf]),
)
def test_weights_and_what_is_left_sum_to_one(function, counts: list[int], density: float) -> None:
    data = batch(counts)
    data["sigma"].fill_(density)
    out = function(**data)
    rows = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts).long())
    total = out.left.index_add(0, rows, out.weights)
    # A sum of at most 41 numbers in [0, 1].
    torch.testing.assert_close(total, torch.ones(len(counts)), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.opacity, 1 - out.left, rtol=0, atol=1e-5)
    assert ((out.weights >= 0) & (out.weights <= 1)).all()


@pytest.mark.parametrize("function", BOTH)
def test_cutting_samples_in_two_changes_no_ray(function) -> None:
    data = batch([4, 0, 9, 30])
    middle = 0.5 * (data["t0"] + data["t1"])
    halves = data | {
        "sigma": data["sigma"].repeat_interleave(2),
        "rgb": data["rgb"].repeat_interleave(2, 0),
        "t0": torch.stack([data["t0"], middle], 1).flatten(),
        "t1": torch.stack([middle, data["t1"]], 1).flatten(),
        "ray_offsets": 2 * data["ray_offsets"],
    }
    whole, cut = function(**data), function(**halves)
    for name in ("color", "opacity", "left"):
        torch.testing.assert_close(getattr(cut, name), getattr(whole, name), rtol=1e-4, atol=1e-6)
    pairs = cut.weights.view(-1, 2).sum(1)
    torch.testing.assert_close(pairs, whole.weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("function", BOTH)
def test_surfaces_emptiness_and_empty_intervals(function) -> None:
    inf = math.inf
    out = function(
        torch.tensor([0.0, inf, 5.0, inf, 2.0]),
        torch.tensor([[1.0] * 3, [2.0] * 3, [3.0] * 3, [4.0] * 3, [5.0] * 3]),
        torch.tensor([0.0, 1.0, 2.0, 1.0, 3.0]),
        torch.tensor([1.0, 2.0, 3.0, 1.0, 2.0]),  # the last two intervals are empty
        torch.tensor([0, 3, 5]),
        torch.tensor([[9.0] * 3, [7.0] * 3]),
    )
    assert out.weights.tolist() == [0.0, 1.0, 0.0, 0.0, 0.0]
    assert out.color.tolist() == [[2.0] * 3, [7.0] * 3]
    assert out.left.tolist() == [0.0, 1.0]
    assert out.depth.tolist() == [1.5, 0.0]


def test_gradients_are_finite_behind_a_surface() -> None:
    sigma = torch.tensor([1.0, math.inf, 1e30, 5.0], requires_grad=True)
    t0 = torch.arange(4.0)
    out = composite(sigma, torch.rand(4, 3), t0, t0 + 1, torch.tensor([0, 4]), torch.rand(1, 3))
    (gradient,) = torch.autograd.grad(out.color.sum(), sigma)
    assert gradient.isfinite().all()
    assert gradient[1:].tolist() == [0.0, 0.0, 0.0]


def test_thin_samples_keep_their_relative_accuracy() -> None:
    # 1 - exp(-tau) in float32 would be off by 6 % at tau = 1e-6.
    sigma = torch.tensor([1e-6])
    out = composite(
        sigma,
        torch.ones(1, 3),
        torch.zeros(1),
        torch.ones(1),
        torch.tensor([0, 1]),
        torch.zeros(1, 3),
    )
    assert out.weights.item() == pytest.approx(1e-6, rel=1e-5)


def test_a_nan_density_shows() -> None:
    data = batch([3, 2])
    data["sigma"][1] = math.nan
    out = composite(**data)
    assert out.color.isnan().any(1).tolist() == [True, False]


@pytest.mark.parametrize("counts", COUNTS, ids=lambda c: f"{len(c)}rays{sum(c)}samples")
@pytest.mark.parametrize("least", [0.0, 1e-4, 0.5, 1.0])
def test_visible_agrees_with_the_reference_and_counts_the_first(
    counts: list[int], least: float
) -> None:
    data = batch(counts, seed=3)
    arguments = [data[k] for k in ("sigma", "t0", "t1", "ray_offsets")]
    counted = visible(*arguments, least)
    wanted = visible_reference(*(doubled({"x": a})["x"] for a in arguments), least)
    # No transmittance of this seed comes within rounding of the limit.
    assert counted.tolist() == wanted.tolist()
    assert (counted <= data["ray_offsets"].diff()).all()
    assert (counted >= data["ray_offsets"].diff().clamp(max=1)).all()


def test_what_visible_drops_weighs_less_than_the_limit() -> None:
    data = batch([100] * 20, density=30.0)
    whole = composite(**data)
    counts = visible(*(data[k] for k in ("sigma", "t0", "t1", "ray_offsets")), 1e-3)
    assert 0 < int(counts.sum()) < 2000
    rows = (torch.arange(100) < counts[:, None]).view(-1).nonzero()[:, 0]
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(counts, 0)])
    part = {k: v[rows] if k in ("sigma", "rgb", "t0", "t1") else v for k, v in data.items()}
    seen = composite(**(part | {"ray_offsets": offsets}))
    # All that was left out lies behind a transmittance below 1e-3.
    assert (whole.opacity - seen.opacity).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 100000, 5], "must never fall, but at ray 1 falls from 100000 to 5"),
        ([0, -(10**9), 5], "must never fall, but at ray 0 falls from 0 to -1000000000"),
        ([0, 4, 3, 5], "must never fall, but at ray 1 falls from 4 to 3"),
        # The differences of these are all positive in 64 bits.
        ([0, 2**62, 2**63 - 1, -(2**62), 5], "must never fall, but at ray 2 falls"),
        ([1, 3, 5], "must run from 0 to the number of samples, 5, but runs from 1 to 5"),
    ],
    ids=["beyond", "below", "falling", "around", "late"],
)
def test_offsets_that_lead_elsewhere_are_refused(offsets: list[int], message: str) -> None:
    data = batch([5]) | {"ray_offsets": torch.tensor(offsets)}
    data["background"] = torch.zeros(len(offsets) - 1, 3)
    with pytest.raises(ShapeError, match=f"composite: ray_offsets {message}"):
        composite(**data)
    with pytest.raises(ShapeError, match=f"visible: ray_offsets {message}"):
        visible(*(data[k] for k in ("sigma", "t0", "t1", "ray_offsets")), 1e-4)


@pytest.mark.parametrize("name", ["sigma", "rgb", "t0", "t1", "background"])
def test_what_is_not_of_floats_is_refused(name: str) -> None:
    data = batch([2, 3])
    data[name] = data[name].long()
    with pytest.raises(ShapeError, match=f"composite: {name} must be of floats, but is torch.int6"):
        composite(**data)


def test_messages() -> None:
    data = batch([2, 3])
    with pytest.raises(
        ShapeError, match=r"composite: rgb must be \[5, 3\], one row for each sample, but"
    ):
        composite(**(data | {"rgb": torch.zeros(4, 3)}))
    with pytest.raises(
        ShapeError, match=r"background must be \[2, 3\], one row for each ray, but is \[3\]"
    ):
        composite(**(data | {"background": torch.zeros(3)}))
    with pytest.raises(
        ShapeError, match=r"ray_offsets must run from 0 to the number of samples, 5, but"
    ):
        composite(**(data | {"ray_offsets": torch.tensor([0, 2, 4])}))
    with pytest.raises(ShapeError, match=r"ray_offsets must be int64 \[R \+ 1\]"):
        composite(**(data | {"ray_offsets": torch.tensor([0, 2, 5]).int()}))
    with pytest.raises(ShapeError, match=r"visible: sigma, t0 and t1 must be \[N\]"):
        visible(data["sigma"], data["t0"][:2], data["t1"], data["ray_offsets"], 0.1)
