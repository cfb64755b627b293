"""Marching cubes in plain torch and Python: what the native kernels are compared with, and what runs without them.

The vertices on the lattice's edges are the same. Which corners of a cell are connected through it is found in another
way, from many slices instead of those where something happens, and every piece of surface with more than three corners
is a fan around a vertex in its middle.
"""

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

__all__ = ["marching_cubes_reference"]

_NEAREST = 1.0 / 1024
_SLICES = 64
# Corners are numbered 4 i + 2 j + k; those of a face anticlockwise as seen from outside.
_FACES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
_Edge = tuple[int, int]  # two corners, the smaller first


def marching_cubes_reference(
    values: Float[Tensor, "X Y Z"], level: float = 0.0, *, below: bool = False
) -> tuple[Float32[Tensor, "V 3"], Int64[Tensor, "F 3"]]:
    """Do what `marching_cubes` does, cell by cell."""
    limit = torch.tensor(level, dtype=torch.float32).double()
    above = limit - values.double() if below else values.double() - limit
    vertices, numbers = _on_edges(above)
    cells = above.unfold(0, 2, 1).unfold(1, 2, 1).unfold(2, 2, 1).reshape(-1, 8)
    points = torch.arange(above.numel()).reshape(above.shape)
    names = points.unfold(0, 2, 1).unfold(1, 2, 1).unfold(2, 2, 1).reshape(-1, 8)
    cut = ((cells > 0).any(1) & (cells <= 0).any(1)).nonzero()[:, 0]
    faces: list[tuple[int, int, int]] = []
    for cell, name in zip(cells[cut].tolist(), names[cut].tolist(), strict=True):
        for piece in _pieces(cell):
            loops = [[numbers[name[a], name[b]] for a, b in loop] for loop in piece]
            if len(loops) == 2:
                faces += _tunnel(loops[0], loops[1], vertices)
            else:
                faces += _disc(loops[0], vertices)
    if not faces:
        return torch.empty(0, 3), torch.empty(0, 3, dtype=torch.int64)
    return torch.stack(vertices).float(), torch.tensor(faces)


def _on_edges(above: Float[Tensor, "X Y Z"]) -> tuple[list[Tensor], dict[_Edge, int]]:
    """Vertices on the lattice's edges, and their numbers by the two points that each lies between."""
    index = torch.arange(above.numel()).reshape(above.shape)
    vertices: list[Tensor] = []
    numbers: dict[_Edge, int] = {}
    for axis, side in enumerate(above.shape):
        near, far = (index.narrow(axis, start, side - 1).reshape(-1) for start in (0, 1))
        one, other = above.reshape(-1)[near], above.reshape(-1)[far]
        crossed = (one > 0) != (other > 0)
        place = torch.stack(torch.unravel_index(near[crossed], above.shape), 1).double()
        place[:, axis] += (one / (one - other))[crossed].clamp(_NEAREST, 1 - _NEAREST)
        for ends in zip(near[crossed].tolist(), far[crossed].tolist(), strict=True):
            numbers[ends] = len(numbers)
        vertices.extend(place)
    return vertices, numbers


def _disc(loop: list[int], vertices: list[Tensor]) -> list[tuple[int, int, int]]:
    if len(loop) == 3:
        return [(loop[0], loop[1], loop[2])]
    middle = len(vertices)
    vertices.append(torch.stack([vertices[v] for v in loop]).mean(0))
    return [(a, b, middle) for a, b in zip(loop, loop[1:] + loop[:1], strict=True)]


def _tunnel(one: list[int], other: list[int], vertices: list[Tensor]) -> list[tuple[int, int, int]]:
    """Triangles from each loop to a ring between them, with a vertex for each pair of corners in turn."""
    count = max(len(one), len(other))
    there = torch.stack([vertices[v] for v in other])
    start = int((there - vertices[one[0]]).norm(dim=1).argmin())
    back = [other[(start - n) % len(other)] for n in range(len(other))]
    ring = list(range(len(vertices), len(vertices) + count))
    stretched = [[loop[n * len(loop) // count] for n in range(count)] for loop in (one, back)]
    vertices.extend((vertices[a] + vertices[b]) / 2 for a, b in zip(*stretched, strict=True))
    faces: list[tuple[int, int, int]] = []
    for loop, flip in zip(stretched, (False, True), strict=True):
        for n in range(count):
            a, b = loop[n], loop[(n + 1) % count]
            c, d = ring[n], ring[(n + 1) % count]
            made = [(a, b, d), (a, d, c)] if a != b else [(a, d, c)]
            faces += [(p, r, q) for p, q, r in made] if flip else made
    return faces


def _pieces(cell: list[float]) -> list[list[list[_Edge]]]:
    """The borders of each piece of surface in a cell: one, or two of a tunnel."""
    loops = _loops(cell)
    if len(loops) == 1:
        return [loops]
    regions = _regions(cell)
    pieces: dict[tuple[int, int], list[list[_Edge]]] = {}
    for loop in loops:
        a, b = loop[0] if cell[loop[0][0]] > 0 else loop[0][::-1]
        pieces.setdefault((regions[a], regions[b]), []).append(loop)
    return list(pieces.values())


def _joined(face: tuple[float, ...]) -> tuple[int, int] | None:
    """Which two opposite corners of a face are connected across it; None where signs do not alternate."""
    up = [value > 0 for value in face]
    if up[0] != up[2] or up[1] != up[3] or up[0] == up[1]:
        return None
    even, odd = face[0] * face[2], face[1] * face[3]
    saddle_above = even > odd if up[0] else odd > even
    return (0, 2) if saddle_above == up[0] else (1, 3)


def _loops(cell: list[float]) -> list[list[_Edge]]:
    following: dict[_Edge, _Edge] = {}
    for corners in _FACES:
        face = tuple(cell[c] for c in corners)
        up = [value > 0 for value in face]
        sides = [(min(e), max(e)) for e in zip(corners, corners[1:] + corners[:1], strict=True)]
        pair = _joined(face)
        across = pair is not None and up[pair[0]]
        for s in range(4):
            if up[s] and not up[(s + 1) % 4]:
                come = s + 1 if across else s - 1
                while not across and up[come % 4]:
                    come -= 1
                following[sides[come % 4]] = sides[s]
    loops = []
    while following:
        edge, step = following.popitem()
        loop = [edge]
        while step != edge:
            loop.append(step)
            step = following.pop(step)
        loops.append(loop)
    return loops


def _regions(cell: list[float]) -> list[int]:
    """A number for each corner, the same for those that are connected on faces or through the cell."""
    regions = list(range(8))

    def join(a: int, b: int) -> None:
        old, new = regions[b], regions[a]
        regions[:] = [new if r == old else r for r in regions]

    def join_on(face: tuple[float, ...], corners: tuple[int, ...]) -> None:
        for s in range(4):
            if (face[s] > 0) == (face[(s + 1) % 4] > 0):
                join(corners[s], corners[(s + 1) % 4])
        pair = _joined(face)
        if pair is not None:
            join(corners[pair[0]], corners[pair[1]])

    for corners in _FACES:
        join_on(tuple(cell[c] for c in corners), corners)
    low = _FACES[0]
    for step in range(1, _SLICES):
        t = step / _SLICES
        face = tuple((1 - t) * cell[c] + t * cell[c + 4] for c in low)
        # The end of each edge that has the slice's sign there.
        ends = tuple(
            c if (value > 0) == (cell[c] > 0) else c + 4 for c, value in zip(low, face, strict=True)
        )
        join_on(face, ends)
    return regions
