"""From a field of distances to a mesh in the coordinates of its data, by DualMesh-UDF."""

import torch
from torch import Generator, Tensor

from polyfield.config import from_json
from polyfield.datasets.mesh import Mesh
from polyfield.errors import InputError
from polyfield.fields.model import Model
from polyfield.fields.signal import Solid
from polyfield.meshing.dual_mesh import UnsignedMesh, mesh_unsigned
from polyfield.meshing.pieces import large_pieces

__all__ = ["UNSIGNED_KINDS", "extract_unsigned"]

UNSIGNED_KINDS = ("udf", "sdf")
"""Kinds of models that have a distance, whose sign is not looked at here."""

_ASKED, _SEED = 1 << 14, 41
_NEAR = 1 / 64  # of the surface: half of the cube lies so near to none that would fit into it


def extract_unsigned(model: Model, depth: int, *, least_piece: float = 0.0) -> UnsignedMesh:
    """Find the surface of a field of distances, signed or not.

    Args:
        model: Of one of `UNSIGNED_KINDS`.
        depth: The lattice has 2^depth cells along each side of the field's cube.
        least_piece: Pieces go that have less than this share of the faces of the largest.

    Returns:
        The mesh in the coordinates of the data.

    Raises:
        InputError: The model has no distance or has not learnt it, there is no surface, or the depth is out of range.
        DataError: The field gives values that are not finite.
    """
    if model.kind not in UNSIGNED_KINDS:
        raise InputError(
            f"DualMesh-UDF needs distances, which a field of kind {model.kind!r} has not; only "
            f"{' and '.join(UNSIGNED_KINDS)} have them."
        )
    solid = from_json(Solid, model.config["domain"], "domain")

    def distance(points: Tensor) -> Tensor:
        values: Tensor = model.module((points + 1.0) / 2.0)[:, 0].abs()
        return values

    with torch.no_grad():
        asked = 2 * torch.rand(_ASKED, 3, generator=Generator().manual_seed(_SEED)) - 1
        near = float((distance(asked) < _NEAR).float().mean())
    if near > 0.5:
        raise InputError(
            f"This field is next to 0 in {100 * near:.0f} % of its cube: it has not learnt a distance yet. Fit it for "
            "longer."
        )
    found = mesh_unsigned(distance, depth)
    vertices, faces = large_pieces(found.mesh.vertices, found.mesh.faces, least_piece)
    placed = vertices / solid.scale + torch.tensor(solid.center, dtype=torch.float64)
    return UnsignedMesh(Mesh(placed, faces), found.queries, found.cells)
