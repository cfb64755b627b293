"""The true surface of the built-in scene as a triangle mesh.

A net of vertices is laid around the cells that the surface crosses (naive surface nets), and then
pulled onto the surface exactly, which is possible because the distance function is known.

See: Gibson (1998), "Constrained elastic surface nets".
"""

import itertools

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from polyfield.datasets.still_life import distance
from polyfield.errors import InputError

__all__ = ["builtin_mesh"]

_LOW, _HIGH = (-0.96, -0.96, -0.64), (0.96, 0.96, 0.6)  # around all solids, with a margin


def builtin_mesh(cells: int = 128) -> tuple[Float32[Tensor, "V 3"], Int64[Tensor, "F 3"]]:
    """Make a mesh of all solids, seen from outside counter-clockwise.

    Where solids touch, the mesh joins them. It is closed; at those places, edges may belong to
    more than two triangles.

    Args:
        cells: Along the longest side of the grid, >= 16; vertices lie about 2 / cells apart.

    Returns:
        Vertices, within 1e-5 of the surface (but for a few at creases between solids, which are
        within a cell), and triangles.

    Raises:
        InputError: Too few cells.
    """
    if cells < 16:
        raise InputError(f"builtin_mesh needs at least 16 cells a side, but got {cells}.")
    low, high = np.array(_LOW), np.array(_HIGH)
    step = float((high - low).max() / cells)
    shape = np.ceil((high - low) / step).astype(int) + 1
    axes = [low[a] + step * np.arange(shape[a]) for a in range(3)]
    # A plane at a time: the grid's temporaries stay small.
    grid = np.stack([distance(_plane(x, axes)).reshape(shape[1], shape[2]) for x in axes[0]])
    inside = grid < 0
    number, vertices = _net(grid, inside)
    points = (low + step * vertices).astype(np.float32)
    faces = np.concatenate([_quads(number, inside, axis) for axis in range(3)])
    return torch.from_numpy(_pulled(points, step)), torch.from_numpy(faces)


def _plane(x: float, axes: list[np.ndarray]) -> np.ndarray:
    y, z = np.meshgrid(axes[1], axes[2], indexing="ij")
    return np.stack([np.full_like(y, x), y, z]).reshape(3, -1).astype(np.float32)


def _net(grid: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A vertex in each cell that the surface crosses: the mean of where it crosses the edges.

    Returns:
        Number of each cell's vertex (-1: none), and vertices in cells from the grid's corner.
    """
    corners = list(itertools.product((0, 1), repeat=3))
    cut = tuple(n - 1 for n in grid.shape)

    def at(values: np.ndarray, corner: tuple[int, ...]) -> np.ndarray:
        return values[tuple(slice(c, c + n) for c, n in zip(corner, cut, strict=True))]

    count = np.sum([at(inside, corner) for corner in corners], axis=0, dtype=np.int8)
    crossed = np.flatnonzero(np.logical_and(count > 0, count < 8))
    number = np.full(cut, -1, dtype=np.int64)
    number.ravel()[crossed] = np.arange(crossed.size)
    total, edges = np.zeros((crossed.size, 3)), np.zeros(crossed.size)
    for corner, axis in itertools.product(corners, range(3)):
        if corner[axis] == 1:
            continue
        other = tuple(c + (a == axis) for a, c in enumerate(corner))
        a, b = at(grid, corner).ravel()[crossed], at(grid, other).ravel()[crossed]
        crosses = (a < 0) != (b < 0)
        place = np.tile(np.array(corner, dtype=np.float64), (crossed.size, 1))
        place[:, axis] = np.where(crosses, a / np.where(crosses, a - b, 1), 0)
        total += place * crosses[:, None]
        edges += crosses
    cell = np.stack(np.unravel_index(crossed, cut), axis=-1)
    return number, cell + total / edges[:, None]


def _quads(number: np.ndarray, inside: np.ndarray, axis: int) -> np.ndarray:
    """Two triangles across every grid edge along `axis` that the surface crosses."""
    u, v = (axis + 1) % 3, (axis + 2) % 3
    # Cells first along the axis: all of them; across it: those with a cell on both sides.
    states = np.moveaxis(inside, (axis, u, v), (0, 1, 2))[:, 1:-1, 1:-1]
    cells = np.moveaxis(number, (axis, u, v), (0, 1, 2))
    leaving = states[:-1] & ~states[1:]
    entering = ~states[:-1] & states[1:]
    around = np.stack([cells[:, :-1, :-1], cells[:, 1:, :-1], cells[:, 1:, 1:], cells[:, :-1, 1:]])
    quads = np.concatenate([around[:, leaving].T, around[:, entering].T[:, ::-1]])
    triangles: np.ndarray = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return triangles


def _pulled(points: np.ndarray, step: float) -> np.ndarray:
    """Move points along the gradient onto the surface, at most a cell far."""
    start, p = points.T, points.T.copy()
    h = np.float32(1e-3)
    for _ in range(4):
        gradient = np.stack(
            [
                distance(p + h * e[:, None]) - distance(p - h * e[:, None])
                for e in np.eye(3, dtype=np.float32)
            ]
        ) / (2 * h)
        p = p - distance(p) * gradient / np.maximum((gradient * gradient).sum(axis=0), 0.25)
        p = start + np.clip(p - start, -step, step)
    return np.ascontiguousarray(p.T, dtype=np.float32)
