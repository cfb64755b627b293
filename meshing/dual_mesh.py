"""Meshing unsigned distances: surfaces that end, that touch, that have no inside.

The field is looked at beside the surface, where it is smooth, not on it: each sample tells a plane that touches the
surface. Cells of a sparse octree get the point that fits their planes best, and around each edge of the lattice that
the surface crosses four such points become a quad. The samples, planes and their rank are those of DualMesh-UDF; which
edges are crossed is asked of the field here, so that sheets stay sheets.

See: Zhang et al. (2023), "Surface extraction from neural unsigned distance fields".
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.errors import InputError
from polyfield.meshing.edge_crossings import crossed_edges, edges_among
from polyfield.meshing.octree import CellSamples, cells_near, samples_of
from polyfield.meshing.orientation import oriented
from polyfield.meshing.plane_fit import Planes, fit_planes
from polyfield.meshing.sheets import Sheets, planes_of_sheets, sheets_among
from polyfield.meshing.unsigned_distance import Distance, DistanceQueries

__all__ = ["UnsignedMesh", "mesh_unsigned"]

_DEEPEST = 11
_ON_SURFACE = 2.0  # in units of the noise


@dataclass(frozen=True)
class UnsignedMesh:
    """A mesh of an unsigned distance.

    Attributes:
        mesh: In the data's units.
        queries: How many points the distance was asked.
        cells: How many cells of the finest lattice were looked at.
    """

    mesh: Mesh
    queries: int
    cells: int


def mesh_unsigned(
    distance: Distance,
    depth: int,
    *,
    low: tuple[float, float, float] = (-1.0, -1.0, -1.0),
    side: float = 2.0,
    noise: float = 0.0005,
) -> UnsignedMesh:
    """Find the surface where an unsigned distance is 0.

    Args:
        distance: From points [N, 3] float32 to distances [N] or [N, 1], or to distances and gradients [N, 3].
        depth: The lattice has 2^depth cells along each axis, 3 to 11.
        low, side: The cube that is looked at.
        noise: What a learnt distance may be on the surface, where it should be 0, in sides of the cube. Samples nearer
            than twice this are not trusted, for their gradients are noise; feet farther than this are none.

    Raises:
        InputError: The depth is out of range, or there is no surface in the cube.
        ShapeError: The function gives something of another shape.
        DataError: It gives NaN or infinity.

    Example:
        >>> ball = mesh_unsigned(lambda x: (x.norm(dim=1) - 0.6).abs(), depth=4)
        >>> ball.mesh.edges.watertight
        True
    """
    if not 3 <= depth <= _DEEPEST:
        raise InputError(f"The depth of the octree must lie in 3 to {_DEEPEST}, but is {depth}.")
    count = 1 << depth
    queries = DistanceQueries(distance, torch.tensor(low, dtype=torch.float64), side / count)
    floor = noise * count
    cells = cells_near(queries, depth, _ON_SURFACE * floor)
    if len(cells) == 0:
        raise _no_surface(queries)
    samples = samples_of(cells, depth)
    distances, gradients = queries.gradients(samples.places)
    edges = edges_among(cells, samples, depth)
    crossed = crossed_edges(edges, samples.places, distances, gradients, queries, floor)
    if len(crossed.numbers) == 0:
        raise _no_surface(queries)
    around = edges.cells[crossed.numbers]
    sheets = sheets_among(around, edges.axis[crossed.numbers], crossed.points, queries)
    vertices = _vertices(cells, samples, (distances, gradients), sheets, queries, floor)
    faces = _triangles(sheets.of, vertices, queries)
    placed = torch.tensor(low, dtype=torch.float64) + vertices * (side / count)
    return UnsignedMesh(Mesh(placed, oriented(faces, placed)), queries.count, len(cells))


def _no_surface(queries: DistanceQueries) -> InputError:
    return InputError(
        f"There is no surface in this cube: at none of {queries.count:,} points is the distance next to nothing."
    )


def _vertices(
    cells: Int64[Tensor, "C 3"],
    samples: CellSamples,
    values: tuple[Float64[Tensor, " S"], Float64[Tensor, "S 3"]],
    sheets: Sheets,
    queries: DistanceQueries,
    noise: float,
) -> Float64[Tensor, "V 3"]:
    """Where each sheet of each cell that has a crossed edge beside it gets its vertex, in cells."""
    distances, gradients = values
    needed, of = torch.unique(samples.of[sheets.cells], return_inverse=True)
    away, slopes = distances[needed], gradients[needed]
    feet = samples.places[needed] - away[:, None] * slopes
    # Near the surface the gradient flips; from far away the foot may land anywhere but on it.
    used = (away > _ON_SURFACE * noise) & (slopes.square().sum(1) > 0.5)
    used[used.clone()] = queries.distances(feet[used]) < _ON_SURFACE * noise
    mine = planes_of_sheets(sheets, of, feet, slopes, used)
    none = len(needed)  # a sample that says nothing
    feet, slopes, used = (torch.cat([t, torch.zeros_like(t[:1])]) for t in (feet, slopes, used))
    planes = Planes(feet, slopes, used, torch.where(mine, of, none))
    return fit_planes(planes, cells[sheets.cells].double(), sheets.middles).points


def _triangles(
    own: Int64[Tensor, "N 4"], vertices: Float64[Tensor, "V 3"], queries: DistanceQueries
) -> Int64[Tensor, "F 3"]:
    """Cut each quad along the diagonal whose middle is nearer to the surface."""
    corners = vertices[own]
    first = queries.distances(corners[:, [0, 2]].mean(1))
    second = queries.distances(corners[:, [1, 3]].mean(1))
    along_first = own[:, [0, 1, 2, 0, 2, 3]]
    along_second = own[:, [1, 2, 3, 1, 3, 0]]
    return torch.where((first <= second)[:, None], along_first, along_second).reshape(-1, 3)
