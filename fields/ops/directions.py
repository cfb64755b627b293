"""Directions spread evenly over the sphere."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["even_directions"]


def even_directions(count: int) -> Float[Tensor, "K 3"]:
    """Give unit vectors, each about as far from its neighbours as any other: golden angles about the last axis.

    Args:
        count: How many, at least 1.

    Returns:
        float64, from the top down.

    Example:
        >>> even_directions(5).norm(dim=1).sum().round().item()
        5.0
    """
    numbers = torch.arange(count, dtype=torch.float64)
    heights = 1.0 - (2.0 * numbers + 1.0) / count
    turns = numbers * (math.pi * (3.0 - math.sqrt(5.0)))
    level = (1.0 - heights.square()).sqrt()
    return torch.stack([level * turns.cos(), level * turns.sin(), heights], dim=1)
