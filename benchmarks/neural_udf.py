"""Learnt unsigned distances of real meshes: how far their meshes are from the true ones, at two resolutions.

Where a field is wrong by more than its cells are wide, finer ones make a mesh worse. Lengths are those of the cube of
side 2 in which a mesh of radius 0.99 is fitted.

usage: python benchmarks/neural_udf.py MESH [MESH ...] [--budget 60] [--field hashgrid]
"""

import argparse
import tempfile
from pathlib import Path

from torch import Generator

import polyfield
from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_distance import MeshDistance
from polyfield.datasets.mesh_file import read_mesh
from polyfield.datasets.mesh_metrics import compare_meshes
from polyfield.fields import model_file
from polyfield.meshing.unsigned_surface import extract_unsigned


def main() -> None:
    """Fit each mesh, and print a row for each resolution."""
    parser = argparse.ArgumentParser()
    parser.add_argument("meshes", nargs="+", type=Path)
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--field", default="hashgrid")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    print("mesh             steps cells  accuracy  complete    F     normals boundary non-manifold")
    for path in args.meshes:
        run = folder / path.stem
        result = polyfield.fit(path, kind="udf", field=args.field, out=run, budget=args.budget)
        model = model_file.load(run)
        true, placement = read_mesh(path).placed_within()
        for depth in (7, 8):
            mesh = extract_unsigned(model, depth).mesh
            placed = Mesh(placement(mesh.vertices), mesh.faces)
            found = compare_meshes(placed, MeshDistance(true), Generator().manual_seed(0))
            print(
                f"{path.stem:<16} {result.step:5} {1 << depth:5} {found.accuracy:9.2e} {found.completeness:9.2e} "
                f"{found.f_score:.4f} {found.normal_consistency:.4f} {mesh.edges.boundary:8} "
                f"{mesh.edges.nonmanifold:8}",
                flush=True,
            )


if __name__ == "__main__":
    main()
