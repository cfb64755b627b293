"""How alike two meshes are, by exact distances from points of one to the other.

Chamfer distances between two clouds of points bottom out at the clouds' own spacing, far above the errors looked for
here: so points of one surface are compared with the triangles of the other.
"""

from dataclasses import asdict, dataclass

from torch import Generator, Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_distance import MeshDistance
from polyfield.datasets.surface_samples import surface_points

__all__ = ["Likeness", "likeness"]

_POINTS, _SEED = 1 << 18, 41


@dataclass(frozen=True)
class Likeness:
    """How alike a mesh and the true one are; lengths in the meshes' units.

    Attributes:
        accuracy: Mean distance of the mesh's points to the truth.
        accuracy_99: What 99 of 100 of them are within.
        completeness: Mean distance of the truth's points to the mesh.
        completeness_99: What 99 of 100 of them are within.
        f_score: Harmonic mean of the shares of points, on either side, that are within `near` of the other.
        near: The distance that counts as near.
        normal_consistency: Mean of |cosine| between the normals at a point and at the closest one of the other mesh, of
            both sides.
    """

    accuracy: float
    accuracy_99: float
    completeness: float
    completeness_99: float
    f_score: float
    near: float
    normal_consistency: float

    def json(self) -> dict[str, float]:
        """Give it as JSON has it."""
        return asdict(self)


def likeness(found: Mesh, truth: Mesh, near: float) -> Likeness:
    """Compare a mesh with the true one.

    Args:
        found: A mesh.
        truth: What it should be, in the same coordinates.
        near: The distance that counts as near in the F-score.
    """
    there, cosines = _to(found, truth)
    back, other_cosines = _to(truth, found)
    precision, recall = float((there <= near).float().mean()), float((back <= near).float().mean())
    return Likeness(
        accuracy=float(there.mean()),
        accuracy_99=float(there.quantile(0.99)),
        completeness=float(back.mean()),
        completeness_99=float(back.quantile(0.99)),
        f_score=2 * precision * recall / max(precision + recall, 1e-12),
        near=near,
        normal_consistency=float((cosines.mean() + other_cosines.mean()) / 2),
    )


def _to(one: Mesh, other: Mesh) -> tuple[Tensor, Tensor]:
    """Distances of points on a mesh to another, and |cosines| between the normals there."""
    points = surface_points(one, _POINTS, Generator().manual_seed(_SEED))
    closest = MeshDistance(other).unsigned(points.positions)
    normals, others = one.normals_of(points.faces), other.normals_of(closest.face)
    return closest.distance.double(), (normals * others).sum(1).abs()
