"""Points on and around a mesh: what shapes are trained on.

Axes: N points.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float32, Int64
from torch import Generator, Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_distance import MeshDistance
from polyfield.datasets.wishes import whole_number

__all__ = [
    "ShapeSamples",
    "SurfacePoints",
    "distance_samples",
    "moved_within",
    "occupancy_samples",
    "outward",
    "surface_points",
    "unsigned_samples",
]

# Of eight points in a row, so many lie close to the surface, near it, and anywhere in the cube: NeuRBF's shares. The
# radius of its meshes is 0.99, as here.
_CLOSE, _NEAR, _UNIFORM = 4, 3, 1
_ROW = _CLOSE + _NEAR + _UNIFORM
_SIGMA = 0.01  # of the noise near the surface; NeuRBF's
_SIGMA_CLOSE = 0.001  # of the noise close to it, where NeuRBF has none
_OFF = 1e-5  # of the mesh's longest side: so far off the surface its sides are told apart


@dataclass(frozen=True)
class SurfacePoints:
    """Points on the faces of a mesh.

    Attributes:
        positions: On the mesh, but for rounding.
        faces: The face of each.
        normals: Unit normal of that face, by the way in which it is wound.
    """

    positions: Float32[Tensor, "N 3"]
    faces: Int64[Tensor, " N"]
    normals: Float32[Tensor, "N 3"]


def surface_points(mesh: Mesh, count: int, generator: Generator) -> SurfacePoints:
    """Draw points that are spread evenly over the area of a mesh.

    Args:
        mesh: Any.
        count: N.
        generator: Where chance comes from: the same state gives the same points.
    """
    whole_number(count, "The number of surface points", 0)
    drawn = torch.rand(count, 3, dtype=torch.float64, generator=generator)
    total = mesh.areas.cumsum(0)
    # The first face whose running total exceeds the draw: faces without area are never it.
    faces = torch.searchsorted(total, drawn[:, 0] * total[-1], right=True).clamp(max=len(total) - 1)
    root, share = drawn[:, 1].sqrt(), drawn[:, 2]
    weights = torch.stack([1 - root, root * (1 - share), root * share], 1)
    positions = (mesh.vertices[mesh.faces[faces]] * weights[:, :, None]).sum(1)
    return SurfacePoints(positions.float(), faces, mesh.normals_of(faces).float())


def outward(surface: SurfacePoints, distance: MeshDistance) -> SurfacePoints:
    """Turn around normals of faces that are wound the wrong way.

    There the inside (`MeshDistance.signed`) lies before them, and the mesh winds backwards. How often it winds is asked
    on both sides of a point, not only which of them is inside: where walls and gaps are thinner than the step between
    the sides, that would turn right normals too.

    Args:
        surface: Points on the mesh.
        distance: To the mesh.
    """
    low, high = distance.mesh.box
    normals = surface.normals.double()
    step = _OFF * float((high - low).max()) * normals
    places = surface.positions.double()
    before, behind = distance.winding(places + step), distance.winding(places - step)
    wrong = (torch.minimum(before, behind) < -0.5) & (before + behind < 0)
    return replace(surface, normals=torch.where(wrong[:, None], -surface.normals, surface.normals))


def moved_within(
    points: Float32[Tensor, "N 3"], reach: float, generator: Generator
) -> Float32[Tensor, "N 3"]:
    """Move each point by a vector drawn evenly from the ball of a radius."""
    way = torch.nn.functional.normalize(torch.randn(points.shape, generator=generator), dim=1)
    return points + way * reach * torch.rand(len(points), 1, generator=generator).pow(1 / 3)


@dataclass(frozen=True)
class ShapeSamples:
    """A pool of points with a value each, made once, from which batches are taken.

    Attributes:
        points: In [-1, 1]^3, or a little beyond it where they lie near the surface.
        values: Their distance, or 1 inside and 0 outside.
    """

    points: Float32[Tensor, "N 3"]
    values: Float32[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.points)

    def batch(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Take points and values of a stretch of the pool that begins anywhere, at a row of eight.

        The pool is in random order, so that a stretch is as good as a choice and much faster to read; the kinds of
        points are mixed in it as they are in the whole. The end is followed by the beginning.

        Args:
            count: How many, at most as many as there are.
            generator: Draws where the stretch begins.

        Raises:
            InputError: More are wanted than there are.
        """
        whole_number(count, "The size of a batch", 1, len(self))
        rows = max(1, len(self) // _ROW)
        begin = _ROW * int(torch.randint(rows, (), generator=generator))
        rest = begin + count - len(self)
        if rest <= 0:
            return self.points[begin : begin + count], self.values[begin : begin + count]
        return (
            torch.cat([self.points[begin:], self.points[:rest]]),
            torch.cat([self.values[begin:], self.values[:rest]]),
        )


def distance_samples(distance: MeshDistance, count: int, generator: Generator) -> ShapeSamples:
    """Make a pool of signed distances: half close to the surface, 3/8 near it, 1/8 anywhere in the cube.

    Points near the surface are such on it, moved by normal noise of 0.01 along each axis (NeuRBF, Chen et al. 2023).
    Those that NeuRBF takes from the surface itself are moved by 0.001: where every distance is 0 a field learns that it
    is flat, and no longer on which side of the surface it is.

    Args:
        distance: To a mesh in [-1, 1]^3 (`Mesh.placed`).
        count: Of the pool, rounded up to a multiple of 8. Each point takes 16 bytes.
        generator: Draws all points.
    """
    points = _pool(distance.mesh, _SIGMA_CLOSE, count, generator)
    return ShapeSamples(points, distance.signed(points))


def unsigned_samples(distance: MeshDistance, count: int, generator: Generator) -> ShapeSamples:
    """Make a pool of unsigned distances, otherwise as `distance_samples`: for open surfaces."""
    points = _pool(distance.mesh, _SIGMA_CLOSE, count, generator)
    return ShapeSamples(points, distance.unsigned(points).distance)


def occupancy_samples(distance: MeshDistance, count: int, generator: Generator) -> ShapeSamples:
    """Make a pool of points inside (1) and outside (0): 7/8 near the surface, 1/8 anywhere in the cube.

    Args:
        distance: To a mesh in [-1, 1]^3 (`Mesh.placed`).
        count: Of the pool, rounded up to a multiple of 8.
        generator: Draws all points.
    """
    points = _pool(distance.mesh, _SIGMA, count, generator)
    return ShapeSamples(points, (distance.signed(points) < 0).float())


def _pool(
    mesh: Mesh, sigma_close: float, count: int, generator: Generator
) -> Float32[Tensor, "N 3"]:
    """Rows of eight points in the fixed order of kinds."""
    rows = -(-whole_number(count, "The size of a pool", 1) // _ROW)
    on = surface_points(mesh, rows * (_CLOSE + _NEAR), generator).positions
    noise = torch.tensor([sigma_close] * _CLOSE + [_SIGMA] * _NEAR)[:, None]
    points = torch.empty(rows, _ROW, 3)
    moved = points[:, : _CLOSE + _NEAR]
    moved.normal_(generator=generator).mul_(noise).add_(on.view(rows, -1, 3))
    points[:, -_UNIFORM:] = 2 * torch.rand(rows, _UNIFORM, 3, generator=generator) - 1
    return points.view(-1, 3)
