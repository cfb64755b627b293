"""The hash grid in plain torch: the oracle of the kernels, differentiable any number of times, any float type."""

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polyfield.fields.ops.hash_grid_geometry import GridGeometry, Level

__all__ = ["hash_grid_entries", "hash_grid_reference"]

_PRIMES = (1, 2654435761, 805459861, 3674653429)
_MASK = 0xFFFFFFFF  # indices are computed in unsigned 32-bit arithmetic


def hash_grid_entries(corner: Int[Tensor, "*N D"], level: Level) -> Int[Tensor, "*N"]:
    """Entry, within its level, of a vertex with these integer coordinates.

    Example:
        >>> from polyfield.fields.ops.hash_grid_geometry import GridGeometry
        >>> level = GridGeometry().levels_table[-1]
        >>> hash_grid_entries(torch.tensor([123, 456, 789]), level).item()
        470282
    """
    index = torch.zeros_like(corner[..., 0])
    for axis in range(corner.shape[-1]):
        if level.rule == 1:
            index = index ^ ((corner[..., axis] * _PRIMES[axis]) & _MASK)
        else:
            index = (index + corner[..., axis] * (level.stride**axis & _MASK)) & _MASK
    return index % level.entries


def hash_grid_reference(
    x: Float[Tensor, "N D"],
    table: Float[Tensor, "E F"],
    geometry: GridGeometry,
    max_level: int | None = None,
) -> Float[Tensor, "N LF"]:
    """Compute `polyfield.fields.ops.hash_grid.hash_grid` in plain torch."""
    active = geometry.levels if max_level is None else max_level
    valid = ~x.isnan().any(1, keepdim=True)
    clamped = torch.where(valid, x, torch.zeros_like(x)).clamp(0, 1)
    levels = geometry.levels_table
    parts = table.split(
        [level.entries for level in levels]
    )  # one gradient a level, not one of all for each corner
    features = [
        _level_features(clamped, part, geometry, level)
        for part, level in zip(parts[:active], levels[:active], strict=True)
    ]
    masked = x.new_zeros(x.shape[0], (geometry.levels - active) * geometry.features)
    known = torch.cat(features, 1) if features else masked[:, :0]
    return torch.cat([torch.where(valid, known, torch.full_like(known, torch.nan)), masked], 1)


def _level_features(x: Tensor, table: Tensor, geometry: GridGeometry, level: Level) -> Tensor:
    position = x * level.scale + level.shift
    cell = position.detach().floor()
    t = position - cell
    if geometry.interpolation == "smoothstep":
        t = t * t * (3 - 2 * t)
    entries, weights = [], []
    for corner in itertools.product((0, 1), repeat=geometry.dim):
        vertex = cell.long() + torch.tensor(corner, device=x.device)
        weight = torch.ones_like(x[:, 0])
        for axis, step in enumerate(corner):
            weight = weight * (t[:, axis] if step else 1 - t[:, axis])
        entries.append(hash_grid_entries(vertex, level))
        weights.append(weight)
    return (torch.stack(weights, 1)[..., None] * table[torch.stack(entries, 1)]).sum(1)
