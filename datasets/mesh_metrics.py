"""How far two meshes are apart, by exact closest points: distances between sets of samples have a floor of their own.

See: Tatarchenko et al. (2019), "What do single-view 3D reconstruction networks learn?" for the F-score; Mescheder et
al. (2019), "Occupancy networks", for the other names.
"""

from dataclasses import dataclass

from torch import Generator

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_distance import MeshDistance
from polyfield.datasets.surface_samples import surface_points
from polyfield.errors import InputError

__all__ = ["MeshComparison", "compare_meshes"]


@dataclass(frozen=True)
class MeshComparison:
    """How far a mesh and the true one are apart; lengths in the unit of both.

    Attributes:
        accuracy: Mean distance from the mesh to the truth.
        completeness: Mean distance from the truth to the mesh.
        f_score: Of the share of the mesh that lies within a threshold of the truth, and the share of the truth that
            lies within it of the mesh, the harmonic mean, in [0, 1].
        normal_consistency: Mean size of the cosine between normals of a point and of its closest one, both ways, in
            [0, 1]; which way a face is turned does not matter.
    """

    accuracy: float
    completeness: float
    f_score: float
    normal_consistency: float


def compare_meshes(
    mesh: Mesh,
    truth: MeshDistance,
    generator: Generator,
    *,
    count: int = 1 << 17,
    threshold: float = 0.005,
) -> MeshComparison:
    """Compare a mesh with the true one, at points drawn evenly from both and their exact closest points.

    Args:
        mesh: What is judged.
        truth: What it should be.
        generator: Draws the points.
        count: Points on each.
        threshold: Of the F-score.

    Raises:
        InputError: The threshold is not above 0.

    Example:
        >>> square = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=torch.float64)
        >>> faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
        >>> above = Mesh(square + torch.tensor([0.0, 0.0, 0.25]), faces)
        >>> compare_meshes(above, MeshDistance(Mesh(square, faces)), Generator().manual_seed(0))
        MeshComparison(accuracy=0.25, completeness=0.25, f_score=0.0, normal_consistency=1.0)
    """
    if not threshold > 0:
        raise InputError(
            f"The threshold of an F-score is a length above 0, but {threshold} was given."
        )
    there = _one_way(mesh, truth, generator, count, threshold)
    back = _one_way(truth.mesh, MeshDistance(mesh), generator, count, threshold)
    shares = there[1] + back[1]
    return MeshComparison(
        accuracy=there[0],
        completeness=back[0],
        f_score=2 * there[1] * back[1] / shares if shares else 0.0,
        normal_consistency=(there[2] + back[2]) / 2,
    )


def _one_way(
    mesh: Mesh, other: MeshDistance, generator: Generator, count: int, threshold: float
) -> tuple[float, float, float]:
    """Mean distance, share within the threshold and mean size of the cosine, from points on one mesh to the other."""
    points = surface_points(mesh, count, generator)
    closest = other.unsigned(points.positions)
    distance = closest.distance.double()
    cosine = (points.normals.double() * other.mesh.normals_of(closest.face)).sum(1).abs()
    return (
        float(distance.mean()),
        float((distance <= threshold).double().mean()),
        float(cosine.mean()),
    )
