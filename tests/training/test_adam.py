import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from polyfield import native
from polyfield.errors import InputError, ShapeError
from polyfield.training.adam import Adam, AdamGroup, adam_step_reference

SIZES = [1, 15, 16, 17, 1003, 40000]


@dataclass
class Sparse:
    values: Tensor
    touched: Tensor

    @classmethod
    def of(cls, gradient: Tensor) -> "Sparse":
        sparse = cls(torch.zeros_like(gradient), torch.zeros(-(-gradient.numel() // 16)).byte())
        sparse.put(gradient)
        return sparse

    def put(self, gradient: Tensor) -> None:
        self.values.copy_(gradient)
        padded = torch.nn.functional.pad(gradient.flatten() != 0, (0, -gradient.numel() % 16))
        self.touched.copy_(padded.view(-1, 16).any(1))


def numbers(*size: int, seed: int = 0, zeros: float = 0.0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=g) * (torch.rand(size, generator=g) >= zeros)


def state_of(adam: Adam) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in adam.state_dict().items()}


@pytest.fixture
def torch_only(monkeypatch: pytest.MonkeyPatch):
    """Switches the kernels off when called."""
    return lambda: monkeypatch.setattr(native, "usable", lambda *_: False)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_equals_torch_where_no_gradient_is_zero(size: int, threads: int, decay: float) -> None:
    torch.set_num_threads(threads)
    ours, theirs = numbers(size), numbers(size).requires_grad_()
    adam = Adam([AdamGroup("all", [ours], rate=0.01, weight_decay=decay)])
    peer = torch.optim.Adam([theirs], lr=0.01, betas=(0.9, 0.99), eps=1e-15, weight_decay=decay)
    for step in range(200):
        gradient = numbers(size, seed=step + 1)
        gradient[gradient == 0] = 1.0
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        assert adam.step() is None
        peer.step()
    # 200 steps of 0.01, each rounded to a few ulp of the step and one of the value.
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=2e-6)
    assert (ours.grad == 0).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sparse", [False, True])
def test_kernel_agrees_with_the_reference(size: int, threads: int, sparse: bool) -> None:
    torch.set_num_threads(threads)
    value = numbers(size)
    gradient = Sparse.of(torch.zeros(size)) if sparse else None
    group = AdamGroup("table", [value], rate=0.02, gradients=[gradient], weight_decay=1e-3)
    adam = Adam([group])
    other, first, second = numbers(size), torch.zeros(size), torch.zeros(size)
    count = torch.zeros(size, dtype=torch.uint16)
    for step in range(30):
        g = numbers(size, seed=100 + step, zeros=0.9)
        if gradient is None:
            value.grad = g.clone()
        else:
            gradient.put(g)
        adam.step(scale=0.5)
        assert adam_step_reference(other, g, first, second, count, group, 0.02, scale=0.5)
        assert not (value.grad if gradient is None else gradient.values).any()
        assert gradient is None or not gradient.touched.any()
    state = adam.state_dict()
    assert torch.equal(state["table.0.count"], count)
    # Rounding with and without fused multiply-adds, over 30 steps.
    torch.testing.assert_close(value, other, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(state["table.0.first"], first, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(state["table.0.second"], second, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("kernels", [True, False])
def test_entries_without_gradient_are_left_alone(kernels: bool, torch_only) -> None:
    if not kernels:
        torch_only()
    value = numbers(1000)
    adam = Adam([AdamGroup("all", [value], rate=0.1, weight_decay=0.1)])
    for step in range(5):
        before, state = value.clone(), state_of(adam)
        gradient = numbers(1000, seed=step, zeros=0.7)
        still = gradient == 0
        value.grad = gradient
        adam.step()
        after = adam.state_dict()
        assert torch.equal(value[still], before[still])
        assert (value[~still] != before[~still]).all()
        for part in ("first", "second"):
            assert torch.equal(after[f"all.0.{part}"][still], state[f"all.0.{part}"][still])
        steps = after["all.0.count"].int() - state["all.0.count"].int()
        assert torch.equal(steps, (~still).int())


def test_bias_correction_counts_an_entry_s_own_steps() -> None:
    value = torch.zeros(40)
    adam = Adam([AdamGroup("all", [value], rate=0.1)])
    for step in range(20):
        value.grad = torch.zeros(40)
        value.grad[step::7] = 3.0
        before = value.clone()
        fresh = adam.state_dict()["all.0.count"].int() == 0
        moving = (value.grad != 0) & fresh
        adam.step()
        # The first step of an entry is always one rate long, whenever it comes.
        assert (value - before)[moving].tolist() == pytest.approx([-0.1] * int(moving.sum()))


def test_untouched_lines_are_not_even_read() -> None:
    value = numbers(64)
    sparse = Sparse.of(torch.ones(64))
    sparse.touched[1] = 0  # a lie, to see the mark obeyed
    before = value.clone()
    adam = Adam([AdamGroup("table", [value], rate=0.1, gradients=[sparse])])
    if not native.available():
        pytest.skip("the torch reference reads all lines")
    adam.step()
    moved = (value != before).view(4, 16)
    assert moved.all(1).tolist() == [True, False, True, True]


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e25])
def test_broken_gradients_are_named_and_never_enter(bad: float, kernels: bool, torch_only) -> None:
    if not kernels:
        torch_only()
    values = [numbers(100), numbers(50, seed=1), numbers(33, seed=2)]
    adam = Adam([AdamGroup(n, [v], rate=0.1) for n, v in zip("abc", values, strict=True)])
    for v in values:
        v.grad = torch.ones_like(v)
    values[1].grad[7] = bad
    values[2].grad[32] = bad
    before = values[1].clone()
    assert adam.step() == "b"
    assert all(v.isfinite().all() for v in values)
    assert int((values[1] == before).sum()) == 1
    assert adam.state_dict()["b.0.count"].int().sum() == 49
    assert not any(v.grad.any() for v in values)
    for v in values:
        v.grad.fill_(1.0)
    assert adam.step() is None


def test_scale_is_a_factor_on_the_gradient() -> None:
    one, other = numbers(100), numbers(100)
    first = Adam([AdamGroup("g", [one], rate=0.1, eps=1e-3)])
    second = Adam([AdamGroup("g", [other], rate=0.1, eps=1e-3)])
    for step in range(5):
        one.grad, other.grad = numbers(100, seed=step), 0.25 * numbers(100, seed=step)
        first.step(scale=0.25)
        second.step()
    assert torch.equal(one, other)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_resumed_run_has_the_same_bits(threads: int) -> None:
    torch.set_num_threads(threads)

    def run(adam: Adam, value: Tensor, sparse: Sparse, weight: Tensor, steps: range) -> None:
        for step in steps:
            sparse.put(numbers(500, 2, seed=step, zeros=0.8))
            weight.grad = numbers(77, seed=step)
            adam.set_rate("head", 0.1 / (1 + step))
            adam.step()

    def make() -> tuple[Adam, Tensor, Sparse, Tensor]:
        value, weight = numbers(500, 2), numbers(77)
        sparse = Sparse.of(torch.zeros(500, 2))
        groups = [
            AdamGroup("table", [value], rate=0.01, gradients=[sparse]),
            AdamGroup("head", [weight], rate=0.1, weight_decay=0.1),
        ]
        return Adam(groups), value, sparse, weight

    whole, half, resumed = make(), make(), make()
    run(*whole, range(20))
    run(*half, range(10))
    resumed[0].load_state_dict(state_of(half[0]))
    resumed[1].copy_(half[1])
    resumed[3].copy_(half[3])
    run(*resumed, range(10, 20))
    assert torch.equal(whole[1], resumed[1])
    assert torch.equal(whole[3], resumed[3])
    for key, tensor in whole[0].state_dict().items():
        assert torch.equal(tensor, resumed[0].state_dict()[key]), key


def test_resize_carries_rows_over() -> None:
    old = numbers(6, 4)
    adam = Adam([AdamGroup("table", [old], rate=0.1)])
    for step in range(3):
        old.grad = numbers(6, 4, seed=step)
        adam.step()
    before = state_of(adam)
    new, row_map = numbers(5, 4, seed=9), torch.tensor([3, -1, 0, 0, 5])
    sparse = Sparse.of(torch.zeros(5, 4))
    adam.resize(old, new, row_map, sparse)
    after = adam.state_dict()
    for part in ("first", "second", "count"):
        expected = before[f"table.0.{part}"].float()[row_map.clamp(min=0)]
        expected[1] = 0
        assert torch.equal(after[f"table.0.{part}"].float(), expected)
    sparse.put(torch.ones(5, 4))
    adam.step()
    assert adam.state_dict()["table.0.count"].int()[:, 0].tolist() == [4, 1, 4, 4, 4]
    fresh = numbers(2, 2)
    adam.resize(new, fresh, None)
    assert not adam.state_dict()["table.0.first"].any()


def test_counts_stay_at_their_limit() -> None:
    value = torch.zeros(20)
    adam = Adam([AdamGroup("all", [value], rate=0.1)])
    state = state_of(adam)
    state["all.0.count"] = torch.full((20,), 65534, dtype=torch.int32).to(torch.uint16)
    adam.load_state_dict(state)
    for _ in range(3):
        value.grad = torch.ones(20)
        adam.step()
    assert adam.state_dict()["all.0.count"].int().tolist() == [65535] * 20
    # Both corrections are 1 by then: m = 1 - 0.9^3, v = 1 - 0.99^3, from zero.
    assert adam.state_dict()["all.0.first"][0].item() == pytest.approx(1 - 0.9**3, rel=1e-5)


def test_state_of_a_large_parameter_begins_at_zero() -> None:
    value = torch.zeros((1 << 22) + 3)  # its state is made in large pages
    state = Adam([AdamGroup("all", [value], rate=0.1)]).state_dict()
    for part in ("first", "second", "count"):
        assert state[f"all.0.{part}"].shape == value.shape
        assert not state[f"all.0.{part}"].any()


def test_entries_of_a_line_take_each_its_own_correction() -> None:
    value = torch.zeros(48)
    adam = Adam([AdamGroup("all", [value], rate=0.1)])
    # Entry i takes i + 1 steps: then all take one more, with the same gradient and hence a step of one rate.
    for step in range(48):
        value.grad = (torch.arange(48) >= step).float()
        adam.step()
    before = value.clone()
    value.grad = torch.ones(48)
    adam.step()
    torch.testing.assert_close(value - before, torch.full((48,), -0.1), rtol=1e-4, atol=0)
    assert adam.state_dict()["all.0.count"].int().tolist() == list(range(2, 50))


def test_nothing_to_do() -> None:
    empty, without = torch.zeros(0), numbers(5)
    adam = Adam([AdamGroup("a", [empty, without], rate=0.1), AdamGroup("b", [], rate=0.1)])
    empty.grad = torch.zeros(0)
    before = without.clone()
    assert adam.step() is None
    assert torch.equal(without, before)


def test_other_precisions_and_layouts_of_gradients() -> None:
    value = numbers(8, 3).double()
    adam = Adam([AdamGroup("a", [value], rate=0.1)])
    value.grad = numbers(3, 8).double().t()
    adam.step()
    assert value.grad.is_contiguous()
    assert not value.grad.any()
    expected = numbers(8, 3).double() - 0.1 * numbers(3, 8).double().t().sign()
    torch.testing.assert_close(value, expected)


def test_messages() -> None:
    group = AdamGroup("table", [numbers(4, 2)], rate=0.1)
    with pytest.raises(InputError, match="two groups are called 'table'"):
        Adam([group, group])
    with pytest.raises(InputError, match=r"needs betas in \[0, 1\)"):
        Adam([replace(group, betas=(0.9, 1.0))])
    with pytest.raises(InputError, match="has 1 parameters but 2 gradients"):
        Adam([replace(group, gradients=[None, None])])
    with pytest.raises(
        ShapeError, match=r"sparse gradient of a parameter \[4, 2\] in group 'table'"
    ):
        Adam([replace(group, gradients=[Sparse.of(numbers(4, 3))])])
    with pytest.raises(ShapeError, match="must be contiguous floats"):
        Adam([replace(group, parameters=[numbers(4, 2).t()])])
    adam = Adam([group])
    with pytest.raises(InputError, match=r"no group 'tabel'\. Did you mean 'table'?"):
        adam.set_rate("tabel", 1.0)
    with pytest.raises(InputError, match="is no parameter of this optimiser"):
        adam.resize(numbers(4, 2), numbers(4, 2), None)
    with pytest.raises(ShapeError, match=r"row_map must be \[3\]"):
        adam.resize(group.parameters[0], numbers(3, 2), torch.zeros(2).long())
    with pytest.raises(InputError, match=r"does not fit these groups; 'table\.0\.count'"):
        adam.load_state_dict({})
    state = adam.state_dict() | {"table.0.first": torch.zeros(3, 2)}
    with pytest.raises(InputError, match=r"'table.0.first' must be torch.float32 \[4, 2\]"):
        adam.load_state_dict(state)
