"""Drawing meshes: rays against triangles, as they are painted, or as clay with a lamp at the eye."""

import torch
from jaxtyping import Float
from torch import Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_paint import Paint
from polyfield.datasets.mesh_rays import FirstHits, MeshRays
from polyfield.errors import ShapeError
from polyfield.renderers.clay import clay
from polyfield.renderers.rendered import Rendered

__all__ = ["MeshRenderer"]


class MeshRenderer:
    """Draws one mesh, in its own coordinates.

    Args:
        mesh: Which.
        paint: How it looks. None: clay.

    Raises:
        ShapeError: The paint is of a mesh with another number of faces.
    """

    def __init__(self, mesh: Mesh, paint: Paint | None = None) -> None:
        if paint is not None and len(paint.corners) != len(mesh.faces):
            raise ShapeError(
                f"MeshRenderer: the mesh has {len(mesh.faces):,} faces, but the paint is of {len(paint.corners):,}."
            )
        self._rays = MeshRays(mesh)
        self._paint = paint

    def render_rays(
        self,
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        background: Float[Tensor, "R 3"],
    ) -> Rendered:
        """Draw rays; see `Renderer`. A ray takes one sample, where it meets the mesh."""
        hits = self._rays.first_hits(origins, directions)
        met = hits.face >= 0
        rows = met.nonzero()[:, 0]
        color = background.clone()
        color[rows] = self._seen(hits, rows, directions)
        return Rendered(
            color=color,
            depth=torch.where(met, hits.distance, 0.0),
            opacity=met.float(),
            samples=len(rows),
        )

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def _seen(self, hits: FirstHits, rows: Tensor, directions: Tensor) -> Tensor:
        faces = hits.face[rows]
        if self._paint is not None:
            return self._paint.seen(faces, hits.weights[rows])
        return clay(self._rays.mesh.normals_of(faces).float(), directions[rows])
