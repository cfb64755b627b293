"""Adam that leaves alone what has no gradient.

Most entries of a hash table get no gradient in a step. Such an entry keeps its value, its moments and its count of
steps, so a step costs what was touched, and the bias correction of each entry is right for the steps that it took.

See: Kingma and Ba (2015), "Adam: a method for stochastic optimization"; Müller et al. (2022), "Instant neural graphics
primitives", section 4, for skipping.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polyfield import native
from polyfield.errors import InputError, ShapeError, nearest

__all__ = ["Adam", "AdamGroup", "TouchedGradient", "adam_step_reference"]

_LINE = 16  # entries that share a byte of `touched`
_MOST = 65535  # where an entry's count of steps stays


class TouchedGradient(Protocol):
    """A gradient that is zero nearly everywhere: `polyfield.fields.ops.sparse_gradient.SparseGradient`.

    Attributes:
        values: The gradient, shaped like the parameter.
        touched: uint8 [ceil(values.numel() / 16)]: 0 where the 16 entries of a line are all zero.
    """

    values: Tensor
    touched: Tensor


@dataclass(frozen=True)
class AdamGroup:
    """Parameters that are trained alike.

    Attributes:
        name: Unique; keys the state and the learning rate.
        parameters: Contiguous float32 tensors, updated in place. Their gradients are taken from `.grad`.
        rate: Learning rate, until `Adam.set_rate` says otherwise.
        gradients: For each parameter the gradient to take instead, or None for `.grad`; empty: all None.
        betas: Decay of the first and of the second moment, in [0, 1).
        eps: Added to the root of the second moment.
        weight_decay: L2: this times the value is added to each gradient that is not zero. Meant for dense groups.
    """

    name: str
    parameters: Sequence[Tensor]
    rate: float
    gradients: Sequence[TouchedGradient | None] = ()
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-15
    weight_decay: float = 0.0


class Adam:
    """Adam over groups of dense and sparse parameters.

    An entry whose gradient is exactly zero is left alone: value, both moments and count, weight decay included. Where
    no gradient is zero, the result is that of `torch.optim.Adam`.

    Counts are 16 bits wide and stay at 65535. That is exact: beyond it both bias corrections are 1 in float32 for
    betas up to 0.9997, as beta^65535 < 2^-25.

    Example:
        >>> weight = torch.zeros(3)
        >>> adam = Adam([AdamGroup("head", [weight], rate=0.1)])
        >>> weight.grad = torch.tensor([1.0, 0.0, -2.0])
        >>> adam.step()
        >>> (1000 * weight).round().tolist(), weight.grad.tolist()
        ([-100.0, 0.0, 100.0], [0.0, 0.0, 0.0])
    """

    def __init__(self, groups: Sequence[AdamGroup]) -> None:
        """Make the optimiser, with moments and counts of zero.

        Raises:
            InputError: Two groups of one name, or numbers out of range.
            ShapeError: A parameter is not contiguous float32, or a sparse gradient does not fit its parameter.
        """
        self._entries: dict[str, list[_Entry]] = {}
        self._groups: dict[str, AdamGroup] = {}
        self.rates: dict[str, float] = {}
        for group in groups:
            if group.name in self._groups:
                raise InputError(f"Adam: two groups are called {group.name!r}; names must differ.")
            if not all(0.0 <= beta < 1.0 for beta in group.betas) or group.eps < 0.0:
                raise InputError(
                    f"Adam: group {group.name!r} needs betas in [0, 1) and eps >= 0, but has {group.betas} and "
                    f"{group.eps}."
                )
            gradients = list(group.gradients) or [None] * len(group.parameters)
            if len(gradients) != len(group.parameters):
                raise InputError(
                    f"Adam: group {group.name!r} has {len(group.parameters)} parameters but {len(gradients)} "
                    f"gradients; give one for each, or None."
                )
            self._groups[group.name] = group
            self.rates[group.name] = group.rate
            self._entries[group.name] = [
                _Entry.new(group.name, parameter, gradient)
                for parameter, gradient in zip(group.parameters, gradients, strict=True)
            ]

    def set_rate(self, name: str, rate: float) -> None:
        """Set a group's learning rate from the next step on."""
        if name not in self.rates:
            raise InputError(f"Adam: there is no group {name!r}.{nearest(name, self.rates)}")
        self.rates[name] = rate

    @torch.no_grad()
    def step(self, scale: float = 1.0) -> str | None:
        """Update every parameter that has a gradient, and set the gradients to zero.

        Args:
            scale: Multiplies every gradient first (1 / loss scale, or a factor that clips).

        Returns:
            The name of the first group with a gradient that is not finite (or whose square overflows), else None.
            Entries with such a gradient were left alone, so a NaN never enters a parameter by this way.
        """
        broken = None
        for name, group in self._groups.items():
            for entry in self._entries[name]:
                usable = _step(entry, group, self.rates[name], scale)
                if not usable and broken is None:
                    broken = name
        return broken

    def resize(
        self,
        old: Tensor,
        new: Tensor,
        row_map: Int[Tensor, " E"] | None,
        gradient: TouchedGradient | None = None,
    ) -> None:
        """Go on with another tensor in a parameter's place.

        Args:
            old: The parameter so far.
            new: The one from now on; may have other rows, or another shape altogether.
            row_map: For each row of `new` the row of `old` whose moments and counts it inherits, or -1 to begin
                anew. None: all begin anew.
            gradient: Its sparse gradient, if it has one.

        Raises:
            InputError: `old` is no parameter here.
            ShapeError: `row_map` does not have an entry for each row, or rows changed their size.
        """
        for name, entries in self._entries.items():
            for i, entry in enumerate(entries):
                if entry.value is old:
                    entries[i] = entry.resized(name, new, row_map, gradient)
                    group = self._groups[name]  # must not keep the old one alive
                    kept = [new if p is old else p for p in group.parameters]
                    self._groups[name] = replace(group, parameters=kept, gradients=())
                    return
        raise InputError(
            f"Adam.resize: the old tensor, {list(old.shape)}, is no parameter of this optimiser."
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Moments, counts and rates as plain tensors, not copied."""
        state = {}
        for name, entries in self._entries.items():
            state[f"{name}.rate"] = torch.tensor(self.rates[name], dtype=torch.float64)
            for i, entry in enumerate(entries):
                state[f"{name}.{i}.first"] = entry.first
                state[f"{name}.{i}.second"] = entry.second
                state[f"{name}.{i}.count"] = entry.count
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved state: from there on the same gradients give the same bits.

        Raises:
            InputError: The state is of other groups, or of parameters of another shape.
        """
        wanted = self.state_dict()
        if missing := wanted.keys() ^ state.keys():
            raise InputError(
                f"Adam: the state does not fit these groups; {sorted(missing)[0]!r} is on one side only."
            )
        for key, tensor in wanted.items():
            if tensor.shape != state[key].shape or tensor.dtype != state[key].dtype:
                raise InputError(
                    f"Adam: {key!r} must be {tensor.dtype} {list(tensor.shape)}, but the state has "
                    f"{state[key].dtype} {list(state[key].shape)}."
                )
        for name in self.rates:
            self.rates[name] = float(state[f"{name}.rate"])
        for key, tensor in wanted.items():
            tensor.copy_(state[key])


def adam_step_reference(
    value: Float[Tensor, "*shape"],
    gradient: Float[Tensor, "*shape"],
    first: Float[Tensor, "*shape"],
    second: Float[Tensor, "*shape"],
    count: Int[Tensor, "*shape"],
    group: AdamGroup,
    rate: float,
    scale: float = 1.0,
) -> bool:
    """Take one step in plain torch, in place, and set the gradient to zero: the oracle of every kernel.

    Returns:
        Whether all gradients were usable.
    """
    beta1, beta2 = group.betas
    scaled = gradient * scale
    usable = (scaled * scaled).isfinite()
    go = (gradient != 0) & usable
    steps = (count.int() + go).clamp(max=_MOST)
    first_correction, second_correction = (
        table[(steps.long() - 1).clamp(0, len(table) - 1)]
        for table in (t.to(value) for t in _corrections(*group.betas))
    )
    g = scaled + group.weight_decay * value
    m = first + (1 - beta1) * (g - first)
    v = beta2 * second + (1 - beta2) * (g * g)
    change = rate * first_correction * m / (v.sqrt() * second_correction + group.eps)
    all_usable = bool(usable.all())
    value.copy_(torch.where(go, value - change, value))
    first.copy_(torch.where(go, m, first))
    second.copy_(torch.where(go, v, second))
    count.copy_(steps.to(count.dtype))
    gradient.zero_()
    return all_usable


@dataclass
class _Entry:
    """A parameter, its gradient and its state."""

    value: Tensor
    gradient: TouchedGradient | None
    first: Tensor
    second: Tensor
    count: Tensor

    @staticmethod
    def new(name: str, value: Tensor, gradient: TouchedGradient | None) -> "_Entry":
        if not value.is_contiguous() or not value.dtype.is_floating_point:
            raise ShapeError(
                f"Adam: parameters of group {name!r} must be contiguous floats, but one is {value.dtype} "
                f"{list(value.shape)} with strides {value.stride()}."
            )
        if gradient is not None:
            lines = (value.numel() + _LINE - 1) // _LINE
            if gradient.values.shape != value.shape or gradient.touched.numel() != lines:
                raise ShapeError(
                    f"Adam: the sparse gradient of a parameter {list(value.shape)} in group {name!r} must have that "
                    f"shape and {lines} bytes of `touched`, but has {list(gradient.values.shape)} and "
                    f"{gradient.touched.numel()}."
                )
        first, second, count = (_zeros(value, t) for t in (value.dtype, value.dtype, torch.uint16))
        return _Entry(value, gradient, first, second, count)

    def resized(
        self, name: str, new: Tensor, row_map: Tensor | None, gradient: TouchedGradient | None
    ) -> "_Entry":
        entry = _Entry.new(name, new, gradient)
        if row_map is None:
            return entry
        if row_map.shape != new.shape[:1] or new.shape[1:] != self.value.shape[1:]:
            raise ShapeError(
                f"Adam.resize: row_map must be [{new.shape[0]}] and rows must keep their shape, but row_map is "
                f"{list(row_map.shape)}, the old tensor {list(self.value.shape)} and the new one {list(new.shape)}."
            )
        rows = (row_map >= 0).nonzero()[:, 0]
        source = row_map[rows].long()
        entry.first[rows] = self.first[source]
        entry.second[rows] = self.second[source]
        # torch indexes no uint16; the same bits as int16 do
        entry.count.view(torch.int16)[rows] = self.count.view(torch.int16)[source]
        return entry


def _zeros(like: Tensor, dtype: torch.dtype) -> Tensor:
    """State of a parameter; a large one in large pages, where that can be: a step is then up to a tenth faster."""
    return native.prefer_large_pages(
        torch.empty(like.shape, dtype=dtype, device=like.device)
    ).zero_()


def _step(entry: _Entry, group: AdamGroup, rate: float, scale: float) -> bool:
    value = entry.value
    gradient = value.grad if entry.gradient is None else entry.gradient.values
    if gradient is None:
        return True
    if not gradient.is_contiguous():
        gradient = gradient.contiguous()
        value.grad = gradient  # cleared below: it must be the tensor that the next backward adds to
    touched = None if entry.gradient is None else entry.gradient.touched
    if not native.usable(value, gradient):
        fine = adam_step_reference(
            value.detach(), gradient, entry.first, entry.second, entry.count, group, rate, scale
        )
        if touched is not None:
            touched.zero_()
        return fine
    first, second = _corrections(*group.betas)
    numbers = (rate, *group.betas, group.eps, group.weight_decay, scale)
    return not native.core().adam_step(
        value.data_ptr(),
        gradient.data_ptr(),
        entry.first.data_ptr(),
        entry.second.data_ptr(),
        entry.count.data_ptr(),
        0 if touched is None else touched.data_ptr(),
        value.numel(),
        numbers,
        first.data_ptr(),
        second.data_ptr(),
        len(first),
    )


_tables: dict[tuple[float, float], tuple[Tensor, Tensor]] = {}


def _corrections(beta1: float, beta2: float) -> tuple[Tensor, Tensor]:
    """Bias corrections of counts 1, 2, ...: 1 / (1 - beta1^i), 1 / sqrt(1 - beta2^i), until both are 1."""
    if (beta1, beta2) not in _tables:
        counts = torch.arange(1, _MOST + 1, dtype=torch.float64)
        first = (1 / (1 - beta1**counts)).float()
        second = (1 / (1 - beta2**counts).sqrt()).float()
        length = int(((first != 1) | (second != 1)).sum()) + 1
        _tables[beta1, beta2] = first[:length].contiguous(), second[:length].contiguous()
    return _tables[beta1, beta2]
