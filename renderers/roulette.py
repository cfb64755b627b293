"""Roulette: send only the samples that matter through the backward pass, without bias.

A sample is kept with a probability p that grows with its importance, and weighs 1 / p: the expected gradient is the
whole one.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polyfield import native
from polyfield.errors import InputError, ShapeError
from polyfield.fields.ops.floats import check_floats

__all__ = ["select_important", "select_important_reference"]


def select_important(
    importance: Float[Tensor, " N"], target: float, offset: float, floor: float = 0.02
) -> tuple[Int[Tensor, " M"], Float[Tensor, " M"]]:
    """Draw about `target` of N items, the important ones rather, with weights that keep sums unbiased.

    Item i is kept with probability p = min(1, max(floor, c |importance|)), 0 where the importance is 0; c is chosen
    so that the expected number is the target, within a percent unless `floor` or N forbid it. One random number draws
    them all: item i is kept when an integer lies between the running sums of p before and behind it, both shifted by
    `offset` (systematic sampling), so that neighbours are thinned evenly and the number kept is the expected one,
    rounded up or down.

    Args:
        importance: How much each item matters, of any sign: best the size of its gradient. NaN or infinite: kept.
        target: Wanted number, > 0.
        offset: Random, uniform in [0, 1), independent of `importance`.
        floor: Least probability of an item of some importance, so that no weight exceeds 1 / floor; in [0, 1].

    Returns:
        indices: int64, rising.
        weights: 1 / p of each, >= 1: the factor on what the item contributes.

    Raises:
        InputError: A number out of range.
        ShapeError: `importance` is not [N] of floats.

    Holds:
        The expectation over `offset` of sum(weights * x[indices]) is the sum of x over items of some importance.

    Example:
        >>> kept, weights = select_important(torch.tensor([4.0, 0.0, 1.0, 1.0]), target=2, offset=0.6)
        >>> kept.tolist(), weights.round(decimals=3).tolist()
        ([0, 2], [1.0, 2.0])
    """
    _check(importance, target, offset, floor)
    if not native.usable(importance):
        return select_important_reference(importance, target, offset, floor)
    importance = importance.detach().contiguous()
    count = importance.shape[0]
    indices, weights = torch.empty(count, dtype=torch.int64), torch.empty(count)
    kept = native.core().roulette(
        importance.data_ptr(), count, target, floor, offset, indices.data_ptr(), weights.data_ptr()
    )
    return indices[:kept], weights[:kept]


def select_important_reference(
    importance: Float[Tensor, " N"], target: float, offset: float, floor: float = 0.02
) -> tuple[Int[Tensor, " M"], Float[Tensor, " M"]]:
    """Compute `select_important` in plain torch, with c by bisection."""
    _check(importance, target, offset, floor)
    size = importance.detach().double().abs()
    finite = size.where(size.isfinite(), 0.0)

    def probability(rate: float) -> Tensor:
        p = (rate * finite).clamp(floor, 1.0)
        return torch.where(size.isfinite(), p.where(size > 0, 0.0), 1.0)

    low, high = 0.0, target / max(float(finite.max()) if len(size) else 0.0, 1e-300) + 1e-300
    while probability(high).sum() < min(target, int((size != 0).sum())) and high < 1e300:
        high *= 2
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if probability(middle).sum() < target else (low, middle)
    p = probability(high)
    sums = torch.floor(torch.cumsum(p, 0) + offset)
    indices = sums.diff(prepend=sums.new_zeros(1)).nonzero()[:, 0]
    return indices, (1.0 / p[indices]).to(importance.dtype)


def _check(importance: Tensor, target: float, offset: float, floor: float) -> None:
    if importance.ndim != 1:
        raise ShapeError(
            f"select_important: importance must be [N], but is {list(importance.shape)}."
        )
    check_floats("select_important", importance=importance)
    if not (target > 0 and 0 <= offset < 1 and 0 <= floor <= 1):
        raise InputError(
            f"select_important: target must be above 0, offset in [0, 1) and floor in [0, 1], but they are {target}, "
            f"{offset} and {floor}."
        )
