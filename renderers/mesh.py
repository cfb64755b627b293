"""Drawing meshes: rays against triangles, in the colours of their vertices, or as clay with a lamp at the eye."""

import torch
from jaxtyping import Float
from torch import Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_rays import FirstHits, MeshRays
from polyfield.errors import ShapeError
from polyfield.renderers.rendered import Rendered

__all__ = ["MeshRenderer"]

_CLAY = (0.82, 0.80, 0.77)  # of a mesh without colours
_DARKEST = 0.15  # of what the lamp grazes


class MeshRenderer:
    """Draws one mesh, in its own coordinates.

    Args:
        mesh: Which.
        colors: Of its vertices, sRGB in [0, 1], shown as they are. None: clay, lit from where the ray comes from.

    Raises:
        ShapeError: Not one colour for each vertex.
    """

    def __init__(self, mesh: Mesh, colors: Float[Tensor, "V 3"] | None = None) -> None:
        if colors is not None and colors.shape != mesh.vertices.shape:
            raise ShapeError(
                f"MeshRenderer: colors must be {list(mesh.vertices.shape)}, but are {list(colors.shape)}."
            )
        self._rays = MeshRays(mesh)
        self._colors = None if colors is None else colors.float()

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
        if self._colors is not None:
            corners = self._colors[self._rays.mesh.faces[faces]]
            return (hits.weights[rows, :, None] * corners).sum(1)
        normals = self._rays.mesh.normals_of(faces).float()
        lit = (normals * directions[rows]).sum(1).abs().clamp(min=_DARKEST)
        return lit[:, None] * torch.tensor(_CLAY)
