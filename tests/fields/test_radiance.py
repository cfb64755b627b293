"""Radiance fields: nothing outside, colour in range, gradients that agree with the reference."""

import pytest
import torch
from torch import Generator, Tensor

from polyfield import native
from polyfield.config import from_json, to_json
from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.domain import Box, Contraction
from polyfield.fields.ops.density import ACTIVATIONS, density, density_reference
from polyfield.fields.ops.rows import copy_runs, copy_runs_reference, take_rows
from polyfield.fields.presets import preset, preset_names
from polyfield.fields.radiance import RadianceConfig, RadianceField
from polyfield.fields.samples import Samples


def small(name: str) -> RadianceConfig:
    """A preset with a small table, so that a test can afford it."""
    data = preset(name)["field"]
    if "log2_table" in data["encoder"]:
        data["encoder"] |= {"log2_table": 12}
    return from_json(RadianceConfig, data)


def some_samples(count: int = 200, rays: int = 10) -> Samples:
    generator = Generator().manual_seed(0)
    ids = torch.randint(rays, (count,), generator=generator).sort().values
    offsets = torch.cat(
        [torch.zeros(1, dtype=torch.int64), torch.bincount(ids, minlength=rays).cumsum(0)]
    )
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=generator), dim=-1)
    positions = torch.rand(count, 3, generator=generator) * 4 - 2  # half of each axis is outside
    t = torch.zeros(count)
    return Samples(positions, t, t, offsets, ids.to(torch.int32), directions)


@pytest.mark.parametrize("name", preset_names())
def test_density_and_its_gradient_are_zero_outside(name: str) -> None:
    box = Box((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    field = RadianceField(small(name), box)
    positions = some_samples().positions.requires_grad_()
    sigma, _ = field.density(positions)
    (gradient,) = torch.autograd.grad(sigma.sum(), positions)
    outside = ~box.inside(positions.detach())
    assert outside.any()
    assert (~outside).any()
    assert (sigma[outside] == 0).all()
    assert (gradient[outside] == 0).all()
    assert (sigma[~outside] > 0).all()


@pytest.mark.parametrize("name", preset_names())
def test_colors_are_colors(name: str) -> None:
    field = RadianceField(small(name), Contraction((0.0, 0.0, 0.0), 1.0))
    samples = some_samples()
    _, features = field.density(samples.positions)
    color = field.color(samples, features)
    assert color.shape == (200, 3)
    assert ((color >= 0) & (color <= 1)).all()


@pytest.mark.parametrize("name", preset_names())
def test_parameters_have_one_group_each(name: str) -> None:
    field = RadianceField(small(name), Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    groups = field.groups()
    assert len({group.name for group in groups}) == len(groups)
    listed = [id(p) for group in groups for p in group.parameters]
    assert sorted(listed) == sorted(id(p) for p in field.parameters())


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_complete_json(name: str) -> None:
    config = small(name)
    assert from_json(RadianceConfig, to_json(config)) == config


def test_wrong_activations_are_named() -> None:
    data = preset("hashgrid")["field"] | {"density": "exq"}
    with pytest.raises(ConfigError, match="Did you mean 'exp'"):
        from_json(RadianceConfig, data)
    with pytest.raises(ConfigError, match="no density activation 'exq'"):
        density(torch.zeros(1, 1), torch.ones(1, dtype=torch.bool), "exq", 1.0)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("transposed", [False, True])
def test_density_agrees_with_its_reference(activation: str, transposed: bool) -> None:
    generator = Generator().manual_seed(0)
    raw = torch.randn(1003, 16, generator=generator) * 8
    raw = (raw.t().contiguous().t() if transposed else raw).requires_grad_()
    inside = torch.rand(1003, generator=generator) < 0.7
    ours = density(raw, inside, activation, 0.5)
    oracle = density_reference(raw.double(), inside, activation, 0.5)
    # exp to 2 units in the last place, and the factor's rounding
    assert torch.allclose(ours.double(), oracle, rtol=5e-7, atol=0)
    upstream = torch.randn(1003, generator=generator)
    (got,) = torch.autograd.grad(ours, raw, upstream)
    (wanted,) = torch.autograd.grad(oracle, raw, upstream.double())
    assert torch.allclose(got, wanted.to(got.dtype), rtol=1e-6, atol=0)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_inside_may_lie_anyhow(activation: str) -> None:
    raw = torch.zeros(129, 2)
    strided = (torch.arange(258) % 4 == 0)[::2]
    for inside in (strided, torch.tensor([True]).expand(129), torch.tensor([False]).expand(129)):
        wanted = density_reference(raw, inside, activation, 1.0)
        # exp(0) is 1 and softplus(0) log 2: one last digit
        torch.testing.assert_close(density(raw, inside, activation, 1.0), wanted, rtol=2e-7, atol=0)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_density_checks_what_it_is_given(activation: str) -> None:
    raw, inside = torch.zeros(5, 2), torch.ones(5, dtype=torch.bool)
    for wrong in (inside[:3], inside[:, None], inside.byte()):
        with pytest.raises(ShapeError, match=r"density: inside must be bool \[5\] on cpu, one for"):
            density(raw, wrong, activation, 1.0)
    for numbers in (raw[:, :0], raw[:, 0]):
        with pytest.raises(
            ShapeError, match=r"density: raw must be \[N, F\] with at least one col"
        ):
            density(numbers, inside, activation, 1.0)
    with pytest.raises(ShapeError, match=r"density: raw must be of floats, but is torch\.int64"):
        density(raw.long(), inside, activation, 1.0)


@pytest.mark.skipif(not native.available(), reason="checks the native operation")
def test_the_native_density_is_a_proper_operation() -> None:
    raw = torch.randn(9, 4, requires_grad=True)
    inside = torch.rand(9) < 0.5
    torch.library.opcheck(torch.ops.polyfield.exp_density, (raw, inside, 2.0))


def test_density_shows_a_nan_and_stops_growing() -> None:
    raw = torch.tensor([[float("nan")], [1000.0], [-1000.0]])
    result = density(raw, torch.ones(3, dtype=torch.bool), "exp", 1.0)
    assert torch.isnan(result[0])
    assert torch.isfinite(result[1:]).all()


@pytest.mark.parametrize(
    "domain", [Box((-1.0, 0.0, -2.0), (1.0, 0.5, 2.0)), Contraction((0.1, 0.2, 0.3), 0.7)]
)
def test_domains_place_points_as_they_say(domain: Box | Contraction) -> None:
    x = torch.randn(1001, 3, generator=Generator().manual_seed(0)) * 2
    unit, inside = domain.place(x)
    # Kernel and reference round a quotient and a product: one unit in the last place of numbers up to 1.
    assert torch.allclose(unit, domain.to_unit(x), rtol=0, atol=3e-7)
    assert torch.equal(inside, domain.inside(x))


def rows_case(count: int) -> tuple[Tensor, list[Tensor]]:
    generator = Generator().manual_seed(0)
    tensors = [
        torch.randn(50, generator=generator),
        torch.randn(50, 3, generator=generator),
        torch.randn(16, 50, generator=generator).t(),
        torch.randn(50, 16, generator=generator),
        torch.randn(50, 5, generator=generator)[:, 1:4],
        torch.arange(50, dtype=torch.int32),
        torch.arange(50, dtype=torch.int64),
    ]
    return torch.randint(50, (count,), generator=generator), tensors


@pytest.mark.parametrize("count", [0, 1, 33, 5000])
def test_rows_are_taken_from_any_layout(count: int) -> None:
    rows, tensors = rows_case(count)
    together = take_rows(rows, *(t for t in tensors if t.element_size() == 4))
    for taken, tensor in zip(together, (t for t in tensors if t.element_size() == 4), strict=True):
        assert torch.equal(taken, tensor[rows])
    assert torch.equal(take_rows(rows, tensors[-1])[0], tensors[-1][rows])


@pytest.mark.parametrize("runs", [0, 1, 700])
def test_runs_of_rows_are_copied_and_nothing_else(runs: int) -> None:
    generator = Generator().manual_seed(0)
    tensors = rows_case(0)[1][:6]
    counts = torch.randint(7, (runs,), generator=generator)
    starts = torch.randint(44, (runs,), generator=generator)
    to_starts = torch.cumsum(counts + 1, 0) - counts  # a row is left free between runs
    length = int(counts.sum()) + runs + 1
    to = [tensor.new_full((length, *tensor.shape[1:]), 7) for tensor in tensors]
    wanted = [tensor.clone() for tensor in to]
    copy_runs(to, to_starts, tensors, starts, counts)
    copy_runs_reference(wanted, to_starts, tensors, starts, counts)
    for one, other, tensor in zip(to, wanted, tensors, strict=True):
        assert torch.equal(one, other)
        for k in range(runs):
            run = one[to_starts[k] : to_starts[k] + counts[k]]
            assert torch.equal(run, tensor[starts[k] : starts[k] + counts[k]])


def test_runs_that_leave_a_tensor_are_refused() -> None:
    one = torch.tensor([1])
    with pytest.raises(ShapeError, match=r"runs by starts and counts must stay in 0..4"):
        copy_runs([torch.zeros(9)], one, [torch.zeros(5)], one + 3, one + 1)
    with pytest.raises(ShapeError, match=r"runs by to_starts and counts must stay in 0..8"):
        copy_runs([torch.zeros(9)], one - 2, [torch.zeros(5)], one, one)
    with pytest.raises(ShapeError, match="a contiguous one of equal rows"):
        copy_runs([torch.zeros(9, 2)], one, [torch.zeros(5)], one, one)


def test_runs_are_counted_in_int64() -> None:
    one, small = torch.tensor([1]), torch.tensor([1], dtype=torch.int32)
    to, tensors = [torch.zeros(9)], [torch.zeros(5)]
    for name, runs in (
        ("to_starts", (small, one, one)),
        ("starts", (one, small, one)),
        ("counts", (one, one, small)),
    ):
        message = rf"copy_runs: {name} must be int64 in one dimension, but is torch.int32 \[1\]"
        with pytest.raises(ShapeError, match=message):
            copy_runs(to, runs[0], tensors, *runs[1:])
    huge = one << 62  # a start and a count of it add up to less than nothing
    with pytest.raises(ShapeError, match=r"must stay in 0\.\.8"):
        copy_runs(to, huge, tensors, huge, huge)


def test_rows_out_of_range_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"rows must be in 0..49, but span -1..3"):
        take_rows(torch.tensor([3, -1]), torch.zeros(50))
    with pytest.raises(ShapeError, match=r"rows must be int64 in one dimension, but is torch.int3"):
        take_rows(torch.tensor([3], dtype=torch.int32), torch.zeros(50))
    with pytest.raises(
        ShapeError, match=r"rows must be int64 in one dimension, but is .* \[2, 2\]"
    ):
        take_rows(torch.zeros(2, 2, dtype=torch.int64), torch.zeros(50))
    with pytest.raises(ShapeError, match=r"rows must be in 0..49, but span 0..50"):
        take_rows(torch.tensor([0, 50]), torch.zeros(50))
    with pytest.raises(ShapeError, match="need the same number of rows"):
        take_rows(torch.tensor([0]), torch.zeros(5), torch.zeros(6))
