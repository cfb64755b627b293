"""Turning faces round so that neighbours face the same way, and closed pieces outwards."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from polyfield import native

__all__ = ["orientation_reference", "oriented"]


def oriented(faces: Int64[Tensor, "F 3"], vertices: Float64[Tensor, "V 3"]) -> Int64[Tensor, "F 3"]:
    """Turn faces round so that two at an edge run along it in opposite directions.

    That spreads over edges of just two faces. What they connect is then turned as a whole so that what it encloses,
    as seen from the middle of its corners, is positive: closed pieces face outwards. A piece with one side only keeps
    a seam.
    """
    faces = faces.contiguous()
    if native.available():
        turned = torch.empty(len(faces), dtype=torch.uint8)
        piece = torch.empty(len(faces), dtype=torch.int64)
        count = native.core().orient_faces(
            faces.data_ptr(), len(faces), turned.data_ptr(), piece.data_ptr()
        )
    else:
        turned, piece, count = orientation_reference(faces)
    turn = turned.bool()
    result = torch.where(turn[:, None], faces.flip(1), faces)
    corners = vertices[result]
    sums = torch.zeros(count, 4, dtype=torch.float64)
    middles = torch.cat([corners.mean(1), torch.ones(len(faces), 1, dtype=torch.float64)], 1)
    sums.index_add_(0, piece, middles)
    a, b, c = (corners - (sums[:, :3] / sums[:, 3:])[piece, None]).unbind(1)
    volume = torch.zeros(count, dtype=torch.float64)
    volume.index_add_(0, piece, (a * torch.linalg.cross(b, c)).sum(1))
    return torch.where((volume < 0)[piece, None], result.flip(1), result)


def orientation_reference(faces: Int64[Tensor, "F 3"]) -> tuple[Tensor, Tensor, int]:
    """Spread face by face: which to turn round, the piece of each, how many pieces."""
    sides: dict[tuple[int, int], list[tuple[int, bool]]] = {}
    for f, corners in enumerate(faces.tolist()):
        for k in range(3):
            a, b = corners[k], corners[(k + 1) % 3]
            sides.setdefault((min(a, b), max(a, b)), []).append((f, a < b))
    beside: list[list[tuple[int, bool]]] = [[] for _ in range(len(faces))]
    for two in sides.values():
        if len(two) == 2:
            (one, rising), (other, also) = two
            beside[one].append((other, rising == also))
            beside[other].append((one, rising == also))
    turned, piece, count = [False] * len(faces), [-1] * len(faces), 0
    for seed in range(len(faces)):
        if piece[seed] >= 0:
            continue
        piece[seed], waiting = count, [seed]
        while waiting:
            face = waiting.pop()
            for other, same in beside[face]:
                if piece[other] < 0:
                    piece[other], turned[other] = count, turned[face] ^ same
                    waiting.append(other)
        count += 1
    return torch.tensor(turned, dtype=torch.uint8), torch.tensor(piece, dtype=torch.int64), count
