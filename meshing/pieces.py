"""Connected pieces of a mesh."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from polyfield.errors import InputError

__all__ = ["large_pieces", "pieces"]


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


def large_pieces(
    vertices: Float64[Tensor, "V 3"], faces: Int64[Tensor, "F 3"], fraction: float
) -> tuple[Float64[Tensor, "W 3"], Int64[Tensor, "G 3"]]:
    """Drop small pieces, and their vertices.

    Args:
        vertices, faces: Of a mesh.
        fraction: A piece stays that has at least this share of the faces that the largest one has, in [0, 1]; with 0
            all is as it was.

    Returns:
        Vertices and faces that stay, in their order.

    Raises:
        InputError: The fraction is not in [0, 1].
    """
    if not 0.0 <= fraction <= 1.0:
        raise InputError(f"A share of the largest piece lies in [0, 1], but is {fraction}.")
    if fraction == 0.0 or len(faces) == 0:
        return vertices, faces
    of, count = pieces(faces, len(vertices))
    sizes = torch.bincount(of, minlength=count)
    faces = faces[sizes[of] >= fraction * int(sizes.max())]
    used = torch.zeros(len(vertices), dtype=torch.bool)
    used[faces] = True
    return vertices[used], (used.cumsum(0) - 1)[faces]
