"""From what there is to mesh in a model to a mesh in the coordinates of its data, with colours and a report."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.errors import InputError
from polyfield.meshing.lattice import Lattice, surface_in
from polyfield.meshing.pieces import large_pieces, pieces
from polyfield.meshing.surfaces import Surface

__all__ = ["Extracted", "MeshReport", "extract", "vertex_normals"]

_COLORED = 1 << 18  # vertices that are coloured at a time


@dataclass(frozen=True)
class MeshReport:
    """What a mesh is like.

    Attributes:
        vertices, faces: How many.
        boundary_edges: Edges of one face.
        nonmanifold_edges: Edges of more than two.
        components: Pieces without a vertex in common.
        watertight: Each edge has two faces, which run along it in opposite directions.
        euler: Vertices - edges + faces: 2 for each closed piece without handles, 2 less for each handle.
        area: In units of the data.
        volume: What it encloses; None where it does not close.
        low, high: Corners of the box around it.
    """

    vertices: int
    faces: int
    boundary_edges: int
    nonmanifold_edges: int
    components: int
    watertight: bool
    euler: int
    area: float
    volume: float | None
    low: tuple[float, float, float]
    high: tuple[float, float, float]

    @staticmethod
    def of(mesh: Mesh) -> "MeshReport":
        """Look at a mesh, of whose vertices all belong to faces."""
        edges, (low, high) = mesh.edges, mesh.box
        # Each face has three edges, each edge one or two of them, or more where sheets meet.
        starts, ends = mesh.faces.flatten(), mesh.faces.roll(-1, 1).flatten()
        keys = torch.minimum(starts, ends) * len(mesh.vertices) + torch.maximum(starts, ends)
        count = len(torch.unique(keys))
        # From the middle: far from the origin the parts of the sum would cancel.
        a, b, c = (mesh.corners - 0.5 * (low + high)).unbind(1)
        volume = float((a * torch.linalg.cross(b, c)).sum() / 6.0)
        return MeshReport(
            vertices=len(mesh.vertices),
            faces=len(mesh.faces),
            boundary_edges=edges.boundary,
            nonmanifold_edges=edges.nonmanifold,
            components=pieces(mesh.faces, len(mesh.vertices))[1],
            watertight=edges.watertight,
            euler=len(mesh.vertices) - count + len(mesh.faces),
            area=float(mesh.areas.sum()),
            volume=volume if edges.closed else None,
            low=_triple(low),
            high=_triple(high),
        )

    def json(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {**asdict(self), "low": list(self.low), "high": list(self.high)}


@dataclass(frozen=True)
class Extracted:
    """A mesh out of a model.

    Attributes:
        mesh: In the coordinates of the data.
        colors: Of its vertices, sRGB in [0, 1]; None where the model has none.
        queries: How many points the model was asked for its surface.
        level: Of the surface; None where it has none.
    """

    mesh: Mesh
    colors: Float[Tensor, "V 3"] | None
    queries: int
    level: float | None


def extract(
    surface: Surface,
    resolution: int,
    level: float,
    *,
    crop: tuple[Float64[Tensor, "3"], Float64[Tensor, "3"]] | None = None,
    least_piece: float = 0.0,
    on_layers: Callable[[int, int], None] = lambda *_: None,
) -> Extracted:
    """Find a surface by marching cubes.

    Args:
        surface: What there is to mesh.
        resolution: Cells along the longest side of the box that is looked at.
        level: Of the surface.
        crop: Low and high corner of the box to look at, in coordinates of the data; None: all that the model has.
        least_piece: Pieces go that have less than this share of the faces of the largest.
        on_layers: Told how many layers of the lattice are done, and how many there are.

    Raises:
        InputError: There is no surface at this level, or it needs more memory than there is.
        DataError: The model gives values that are not finite.
    """
    low, high = surface.box if crop is None else _within(crop, surface.data_from_model)
    lattice = Lattice(_triple(low), _triple(high), resolution)
    found, queries = surface_in(
        lattice,
        surface.values,
        level,
        below=surface.below,
        wanted=surface.wanted(lattice),
        on_layers=on_layers,
    )
    vertices, faces = found
    if len(faces) == 0:
        raise InputError(
            f"There is no surface at the level {level:g} in the box from {_told(low)} to {_told(high)}: all "
            f"{queries:,} values that were asked lie on one side of it. Another --level or --crop may have one."
        )
    vertices, faces = large_pieces(vertices, faces, least_piece)
    placed = lattice.place(vertices)
    colors = _colors(surface, placed, vertex_normals(placed, faces), lattice.step)
    to_data = surface.data_from_model
    mesh = Mesh(placed @ to_data[:3, :3].T + to_data[:3, 3], faces)
    return Extracted(mesh, colors, queries, level)


def vertex_normals(
    vertices: Float64[Tensor, "V 3"], faces: Int64[Tensor, "F 3"]
) -> Float64[Tensor, "V 3"]:
    """Unit normals of vertices: the mean of their faces' by area; 0 for a vertex without area around it."""
    a, b, c = vertices[faces].unbind(1)
    crossed = torch.linalg.cross(b - a, c - a)
    result = torch.zeros_like(vertices)
    for corner in range(3):
        result.index_add_(0, faces[:, corner], crossed)
    return torch.nn.functional.normalize(result, dim=1, eps=1e-300)


def _within(
    crop: tuple[Tensor, Tensor], data_from_model: Tensor
) -> tuple[Float64[Tensor, "3"], Float64[Tensor, "3"]]:
    """The box in the model's coordinates that holds one in those of the data."""
    low, high = crop
    corners = torch.cartesian_prod(*torch.stack([low, high], 1).double())
    back = torch.linalg.inv(data_from_model)
    found = corners @ back[:3, :3].T + back[:3, 3]
    return found.amin(0), found.amax(0)


def _colors(surface: Surface, points: Tensor, normals: Tensor, step: float) -> Tensor | None:
    """Of all vertices, seen from as far as a cell is wide."""
    parts = list[Tensor]()
    for some in torch.arange(len(points)).split(_COLORED):
        part = surface.colors(points[some].float(), normals[some].float(), step)
        if part is None:
            return None
        parts.append(part)
    return torch.cat(parts)


def _triple(corner: Tensor) -> tuple[float, float, float]:
    x, y, z = corner.tolist()
    return x, y, z


def _told(corner: Tensor) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in corner.tolist()) + ")"
