"""Placing parts of a radiance field by what the field itself has learnt so far."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from polyfield.fields.radiance import RadianceField
from polyfield.fields.registry import Prepared
from polyfield.renderers.volume import VolumeRenderer

__all__ = ["density_weights", "place_by_density"]

_POINTS = 1 << 18
_CHUNK = 1 << 15


def place_by_density(
    parts: Sequence[Prepared], renderer: VolumeRenderer, generator: Generator
) -> None:
    """Place parts by points of the occupied cells.

    Args:
        parts: What to place.
        renderer: Of the field, with its occupancy grid.
        generator: Draws the points.
    """
    grid, field = renderer.grid, renderer.field
    cells = grid.occupied_cells()
    if len(cells) == 0:
        return
    chosen = cells[torch.randint(len(cells), (_POINTS,), generator=generator)]
    seed = int(torch.randint(2**31, (), generator=generator))
    positions = grid.random_points(chosen, seed)
    depth = float((2.0 * grid.half_size).mean()) / grid.resolution  # of a cell
    weights = torch.cat(
        [density_weights(field, p, depth, generator) for p in positions.split(_CHUNK)]
    )
    unit, inside = field.domain.place(positions)
    corners = field.domain.to_world(torch.tensor([[0.0] * 3, [1.0] * 3]))
    sides = (corners[1] - corners[0]).abs()
    for part in parts:
        part.prepare(unit[inside], weights[inside], sides / sides.max(), generator)


def density_weights(
    field: RadianceField, positions: Float[Tensor, "N 3"], depth: float, generator: Generator
) -> Float[Tensor, " N"]:
    """Weigh points by opacity times how quickly the features change there (NeuRBF, Chen et al. 2023, section 3.4).

    The change is measured along one random direction of the space of features.

    Args:
        field: What is looked at.
        positions: In world units.
        depth: Over which opacity is taken, in world units.
        generator: Draws the direction.
    """
    positions = positions.detach().requires_grad_()
    with torch.enable_grad():
        sigma, features = field.density(positions)
        direction = torch.randn(features.shape[1], generator=generator)
        (slope,) = torch.autograd.grad((features @ direction).sum(), positions)
    opacity = 1.0 - torch.exp(-sigma.detach() * depth)
    weights: Tensor = opacity * slope.norm(dim=1)
    return weights.nan_to_num(0.0, 0.0, 0.0)
