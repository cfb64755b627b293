"""Connected pieces of a mesh."""

import torch
from jaxtyping import Int64
from torch import Tensor

from polyfield.errors import InputError

__all__ = ["pieces", "without_small_pieces"]


def pieces(faces: Int64[Tensor, "F 3"], vertices: int) -> tuple[Int64[Tensor, " F"], int]:
    """Number the pieces that faces belong to: those that have a vertex in common are of one.

    Args:
        faces: Three vertices each.
        vertices: How many there are.

    Returns:
        Each face's piece, counted from 0 in the order of their first vertices, and how many there are.

    Example:
        >>> found, count = pieces(torch.tensor([[0, 1, 2], [3, 4, 5], [2, 1, 6]]), 7)
        >>> found.tolist(), count
        ([0, 1, 0], 2)
    """
    root = torch.arange(vertices)
    while True:
        # Every vertex names the lowest vertex known to be of its piece; what faces join is handed to the one named.
        lowest = root[faces].amin(1)
        new = root.clone()
        new.scatter_reduce_(0, faces.flatten(), lowest.repeat_interleave(3), "amin")
        new.scatter_reduce_(0, root[faces].flatten(), lowest.repeat_interleave(3), "amin")
        new = new[new]
        if torch.equal(new, root):
            break
        root = new
    roots, of = torch.unique(root[faces[:, 0]], return_inverse=True)
    return of, len(roots)


def without_small_pieces(
    faces: Int64[Tensor, "F 3"], vertices: int, fraction: float
) -> Int64[Tensor, " K"]:
    """Say which faces belong to pieces that are not small.

    Args:
        faces: Three vertices each.
        vertices: How many there are.
        fraction: A piece stays that has at least this share of the faces that the largest one has, in [0, 1].

    Returns:
        The numbers of the faces that stay, rising.

    Raises:
        InputError: The fraction is not in [0, 1].
    """
    if not 0.0 <= fraction <= 1.0:
        raise InputError(f"A share of the largest piece lies in [0, 1], but is {fraction}.")
    if len(faces) == 0:
        return torch.empty(0, dtype=torch.int64)
    of, count = pieces(faces, vertices)
    sizes = torch.bincount(of, minlength=count)
    return (sizes[of] >= fraction * int(sizes.max())).nonzero()[:, 0]
