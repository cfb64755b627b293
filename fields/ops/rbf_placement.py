"""Where radial bases go, and how wide they are: weighted k-means over points that matter differently.

Axes: P points, D coordinates, M kernels, S numbers of a kernel's shape.
Source: Chen et al. 2023, "NeuRBF", sections 3.3 and 4, and the behaviour of its program.
"""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from polyfield.errors import ShapeError
from polyfield.fields.ops.rbf_neighbours import Neighbours
from polyfield.fields.ops.rbf_shape import RadialBases, RbfShape

__all__ = ["even_shapes", "place_bases"]

_ROUNDS = 10
_EMPTY = 1e-10  # squared width of a kernel that no point is nearest to, before it is clamped
# A kernel should be 1/2 one width from its centre, so its squared width is scaled.
_HALF = {"inverse_quadratic": 1.0, "inverse_multiquadric": 1 / 3, "gaussian": 1.0, "tent": 4.0}
_WIDEST = 1 / 10  # width, as a part of the domain's side
_NARROWEST = 1 / 200  # width, as a part of the distance between points if they lay on a lattice
_MOST_CORRELATED = 0.999


def place_bases(
    points: Float[Tensor, "P D"],
    weights: Float[Tensor, " P"],
    extent: Float[Tensor, " D"],
    count: int,
    shape: RbfShape,
    *,
    spread: float,
    generator: Generator,
) -> RadialBases:
    """Place kernels where weights are high, each as wide as the points that are nearest to it.

    Kernels start at points drawn by weight, all different as long as there are enough of positive weight; ten times
    each moves to the weighted mean of the points nearest to it. Their covariance, divided by `spread` and scaled so
    that the kernel is about 1/2 at its rim, gives the shape. A width along an axis is at most a tenth of the domain,
    and at least 1/200 of the distance that the points would have on a lattice.

    Args:
        points: In [0, 1]^D.
        weights: At least 0. Points of weight 0 take no part; where all are 0, all count alike.
        extent: Lengths of the unit cube's sides: distances are between points times this.
        count: M.
        shape: Which kernel.
        spread: Smaller is wider; above 0.
        generator: Of what is drawn.

    Returns:
        M kernels, in no order that means anything.

    Raises:
        ShapeError: Points, weights and extent do not fit together, or a value is out of range.
    """
    _check(points, weights, extent, shape)
    narrowest = _NARROWEST * (float(extent.double().prod()) / len(points)) ** (1 / shape.dim)
    if not weights.any():
        weights = torch.ones_like(weights)
    used = weights > 0
    points, weights = points[used], weights[used].double()
    centres = points[_draw(weights, count, generator)].contiguous()
    columns = points.double().unbind(1)
    for _ in range(_ROUNDS):
        nearest = Neighbours(centres, extent, 1)(points)[:, 0].long()
        mass = _sums(nearest, weights, count)
        sums = [_sums(nearest, weights * column, count) for column in columns]
        means = torch.stack(sums, 1) / mass[:, None]
        centres = torch.where(mass[:, None] > 0, means, centres).float().contiguous()
    nearest = Neighbours(centres, extent, 1)(points)[:, 0].long()
    covariance = _covariances(points, weights, nearest, centres, extent)
    covariance = covariance * (_HALF[shape.kernel] / spread)
    return RadialBases(centres, _shapes(covariance, extent.double(), narrowest, shape), extent)


def even_shapes(count: int, extent: Float[Tensor, " D"], shape: RbfShape) -> Float[Tensor, "M S"]:
    """Give all kernels one width, the distance between them if they lay on a lattice."""
    width = (extent.prod() / count) ** (1 / shape.dim)
    if shape.kernel == "tent":
        return (1 / width).expand(count, 1).contiguous()
    upper = torch.triu_indices(shape.dim, shape.dim)
    return ((upper[0] == upper[1]) / width.square()).expand(count, -1).contiguous()


def _check(points: Tensor, weights: Tensor, extent: Tensor, shape: RbfShape) -> None:
    wanted = ((len(points), shape.dim), (len(points),), (shape.dim,))
    given = tuple(tuple(tensor.shape) for tensor in (points, weights, extent))
    if given != wanted or not len(points):
        raise ShapeError(
            f"Radial bases are placed by points [P, {shape.dim}], weights [P] and an extent [{shape.dim}], not by "
            f"{', '.join(str(list(size)) for size in given)}."
        )
    if not (points.isfinite().all() and weights.isfinite().all() and (weights >= 0).all()):
        raise ShapeError(
            "Radial bases are placed by finite points with finite weights of at least 0; some are not."
        )


def _draw(weights: Float[Tensor, " P"], count: int, generator: Generator) -> Int[Tensor, " M"]:
    """Draw points by weight: no point twice, unless there are fewer than that."""
    # The first `count` to arrive, at rates given by their weights, are a draw without putting back.
    arrivals = torch.empty_like(weights).exponential_(generator=generator) / weights
    drawn = arrivals.topk(min(count, len(weights)), largest=False).indices
    again = torch.arange(count - len(drawn)) % len(weights)
    return torch.cat([drawn, drawn[again]])


def _sums(
    numbers: Int[Tensor, " P"], values: Float[Tensor, " P"], count: int
) -> Float[Tensor, " M"]:
    return torch.bincount(numbers, values, minlength=count)


def _covariances(
    points: Tensor, weights: Tensor, nearest: Tensor, centres: Tensor, extent: Tensor
) -> Float[Tensor, "M D D"]:
    """Weighted covariance of the points around each centre, times the extent; tiny where there are none."""
    count, dim = centres.shape
    mass = _sums(nearest, weights, count)
    u = ((points - centres[nearest]) * extent).double().unbind(1)
    result = torch.zeros(count, dim, dim, dtype=torch.float64)
    for a in range(dim):
        for b in range(a, dim):
            mean = _sums(nearest, weights * u[a] * u[b], count) / mass
            result[:, a, b] = result[:, b, a] = mean.where(mass > 0, _EMPTY if a == b else 0.0)
    return result


def _shapes(
    covariance: Float[Tensor, "M D D"],
    extent: Float[Tensor, " D"],
    narrowest: float,
    shape: RbfShape,
) -> Float[Tensor, "M S"]:
    """Clamp widths and invert."""
    if shape.kernel == "tent":
        width = covariance.diagonal(dim1=1, dim2=2).sum(1, keepdim=True).sqrt()
        return (1 / width.clamp(narrowest, _WIDEST * float(extent.max()))).float()
    # Narrowing a kernel keeps how its axes go together, widening it lets them go apart: it stays definite.
    width = covariance.diagonal(dim1=1, dim2=2).sqrt()
    shrink = (_WIDEST * extent / width).clamp(max=1.0)
    covariance = covariance * shrink[:, :, None] * shrink[:, None, :]
    axes = torch.eye(shape.dim, dtype=torch.bool)
    covariance = torch.where(
        axes, covariance.clamp(min=narrowest**2), _MOST_CORRELATED * covariance
    )
    upper = torch.triu_indices(shape.dim, shape.dim)
    inverse: Tensor = torch.linalg.inv(covariance)
    return inverse[:, upper[0], upper[1]].float().contiguous()
