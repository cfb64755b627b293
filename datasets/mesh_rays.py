"""Where rays first meet a triangle mesh.

The triangle is found in a tree of boxes in single precision; the place on it is then computed in double precision.

Axes: R rays, F faces.

See: Moeller and Trumbore (1997), "Fast, minimum storage ray-triangle intersection".
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from polyfield import native
from polyfield.datasets.mesh import Mesh
from polyfield.errors import ShapeError

__all__ = ["FirstHits", "MeshRays", "first_hits_reference"]

_BESIDE = 1e-5  # of a triangle's edges: how far beside it a ray still meets it
_PAIRS = 1 << 20  # of rays and faces that the reference looks at together


class FirstHits(NamedTuple):
    """Where R rays first meet a mesh: infinity, face -1 and weights 0 for those that do not.

    Attributes:
        distance: From the origin, 0 or more.
        face: Which; both of its sides count.
        weights: Of its three corners at that place, 0 or more, together 1.
    """

    distance: Float32[Tensor, " R"]
    face: Int64[Tensor, " R"]
    weights: Float32[Tensor, "R 3"]


class MeshRays:
    """Casts rays at a mesh.

    Args:
        mesh: Any; it is copied.

    Example:
        >>> corners = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0]]).double()
        >>> triangle = MeshRays(Mesh(corners, torch.tensor([[0, 1, 2]])))
        >>> hit = triangle.first_hits(torch.tensor([[0.25, 0.5, 2.0]]), torch.tensor([[0.0, 0.0, -1.0]]))
        >>> hit.distance.tolist(), hit.face.tolist(), hit.weights.tolist()
        ([2.0], [0], [[0.25, 0.25, 0.5]])
    """

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = Mesh(mesh.vertices.cpu().clone(), mesh.faces.cpu().clone(), mesh.notes)
        self._tree: Any = None
        if native.available():
            vertices, faces = self.mesh.vertices.contiguous(), self.mesh.faces.contiguous()
            self._tree = native.core().MeshTree(
                vertices.data_ptr(), len(vertices), faces.data_ptr(), len(faces)
            )

    def first_hits(
        self, origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]
    ) -> FirstHits:
        """Cast rays. One that is not finite meets nothing.

        A ray that passes a triangle by less than a hundred-thousandth of its edges meets it too, so that none slips
        between neighbours.

        Args:
            origins: In the mesh's coordinates, float32, on the CPU.
            directions: Unit vectors.

        Raises:
            ShapeError: Another shape, kind or device.
        """
        for name, tensor in (("origins", origins), ("directions", directions)):
            if (
                tensor.shape != (len(origins), 3)
                or tensor.dtype != torch.float32
                or tensor.device.type != "cpu"
            ):
                raise ShapeError(
                    f"MeshRays: {name} must be [R, 3] of float32 on the CPU, but are {list(tensor.shape)} of "
                    f"{tensor.dtype} on {tensor.device}."
                )
        if self._tree is None:
            distance, face, weights = first_hits_reference(
                self.mesh, origins.double(), directions.double()
            )
            return FirstHits(distance.float(), face, weights.float())
        origins, directions = origins.contiguous(), directions.contiguous()
        count = len(origins)
        distance, face = torch.empty(count), torch.empty(count, dtype=torch.int64)
        pair = torch.empty(count, 2)
        native.core().mesh_first_hits(
            self._tree,
            origins.data_ptr(),
            directions.data_ptr(),
            count,
            distance.data_ptr(),
            face.data_ptr(),
            pair.data_ptr(),
        )
        first = torch.where(face >= 0, 1.0 - pair.sum(1), 0.0).clamp(min=0.0)
        return FirstHits(distance, face, torch.cat([first[:, None], pair], 1))


def first_hits_reference(
    mesh: Mesh, origins: Float64[Tensor, "R 3"], directions: Float64[Tensor, "R 3"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Cast rays by looking at every face: distance, face and weights."""
    a, b, c = mesh.corners.unbind(1)
    parts = list[tuple[Tensor, Tensor, Tensor]]()
    for some in torch.arange(len(origins)).split(max(_PAIRS // len(a), 1)):
        o, d = origins[some, None], directions[some, None]
        u, v = b - a, c - a
        p, to = torch.linalg.cross(d, v[None]), o - a
        q = torch.linalg.cross(to, u[None].expand_as(to))
        inverse = 1.0 / (u * p).sum(-1)
        s, t = (to * p).sum(-1) * inverse, (d * q).sum(-1) * inverse
        far = (v * q).sum(-1) * inverse
        met = (s >= -_BESIDE) & (t >= -_BESIDE) & (s + t <= 1 + _BESIDE)
        met &= (far >= 0) & far.isfinite()
        far = torch.where(met, far, torch.inf)
        distance, face = far.min(1)
        hit = distance.isfinite()
        s, t = (w.gather(1, face[:, None])[:, 0] for w in (s, t))
        s = s.clamp(0, 1)
        t = torch.minimum(t.clamp(min=0), 1.0 - s)
        weights = torch.stack([1.0 - s - t, s, t], 1)
        parts.append(
            (distance, torch.where(hit, face, -1), torch.where(hit[:, None], weights, 0.0))
        )
    distances, faces, all_weights = (torch.cat(part) for part in zip(*parts, strict=True))
    return distances, faces, all_weights
