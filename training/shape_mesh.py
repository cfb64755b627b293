"""How good the mesh of a field of a shape is: it is extracted, and compared with the mesh that was fitted."""

from dataclasses import asdict
from typing import Any

from torch import Generator

from polyfield.config import from_json
from polyfield.datasets.mesh import Mesh, Placement
from polyfield.datasets.mesh_distance import MeshDistance
from polyfield.datasets.mesh_metrics import compare_meshes
from polyfield.errors import DataError, InputError
from polyfield.fields.model import Model
from polyfield.fields.signal import Solid
from polyfield.meshing.extract import extract
from polyfield.meshing.surfaces import surface_of
from polyfield.meshing.unsigned_surface import extract_unsigned

__all__ = ["measure_mesh"]

_DEPTH, _SEED = 7, 22  # the lattice has 2^7 cells along each side


def measure_mesh(model: Model, distance: MeshDistance, level: float | None) -> dict[str, Any]:
    """Extract a field's mesh at 128 cells along the side of its cube, and compare it with the true one.

    Args:
        model: Of kind "sdf", "udf" or "occupancy".
        distance: To the true mesh, placed as the field has it.
        level: Of the surface; None of an unsigned distance.

    Returns:
        "accuracy", "completeness", "f_score" and "normal_consistency" as of `MeshComparison`, lengths in units of the
        cube of side 2. Nothing where the field has no surface.
    """
    try:
        mesh = _mesh_of(model, level)
    except (InputError, DataError):  # a field that has learnt nothing yet
        return {}
    solid = from_json(Solid, model.config["domain"], "domain")
    placed = Mesh(Placement(solid.center, solid.scale)(mesh.vertices), mesh.faces)
    return asdict(compare_meshes(placed, distance, Generator().manual_seed(_SEED)))


def _mesh_of(model: Model, level: float | None) -> Mesh:
    if level is None:
        return extract_unsigned(model, _DEPTH).mesh
    return extract(surface_of(model), 1 << _DEPTH, level).mesh
