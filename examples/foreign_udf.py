"""Mesh a distance that another program learnt: a dress, by the network of DCUDF's authors (Hou et al. 2023).

Any function of points will do for `mesh_unsigned`; here it is a perceptron that is read from a checkpoint, without
running anything that the file may hold.

usage: python examples/foreign_udf.py dcudf-cloth564-udf.pth dress.ply [--depth 8]
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_export import write_mesh
from polyfield.meshing.dual_mesh import mesh_unsigned
from polyfield.meshing.extract import MeshReport, vertex_normals
from polyfield.meshing.pieces import large_pieces

OCTAVES, JOINED = 8, 4
LOW, SIDE = (-0.55, -0.55, -0.55), 1.1  # where it was trained
NOISE = 0.001  # it says 0.0001 to 0.001 on the surface


class Distance:
    """Nine layers with weight normalisation; before the fifth the encoded point is joined again."""

    def __init__(self, file: Path) -> None:
        # Beside the weights the file has numbers in numpy's form: plain data, which has to be allowed by name.
        core = np._core.multiarray  # type: ignore[attr-defined]
        allowed = [
            (core.scalar, "numpy.core.multiarray.scalar"),
            (core._reconstruct, "numpy.core.multiarray._reconstruct"),
            *(np.ndarray, np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType),
        ]
        with torch.serialization.safe_globals(allowed):
            state = torch.load(file, map_location="cpu", weights_only=True)["udf_network_fine"]
        self.layers = list[tuple[Tensor, Tensor]]()
        for k in range(9):
            length, way = state[f"lin{k}.weight_g"], state[f"lin{k}.weight_v"]
            matrix = length * way / way.norm(dim=1, keepdim=True)
            self.layers.append((matrix, state[f"lin{k}.bias"]))

    def __call__(self, points: Tensor) -> Tensor:
        """Distances [N, 1] at points [N, 3]."""
        parts = [points]
        for octave in range(OCTAVES):
            parts += [(points * 2.0**octave).sin(), (points * 2.0**octave).cos()]
        encoded = torch.cat(parts, 1)
        x = encoded
        for k, (matrix, bias) in enumerate(self.layers):
            if k == JOINED:
                x = torch.cat([x, encoded], 1) / math.sqrt(2)
            x = torch.nn.functional.linear(x, matrix, bias)
            if k + 1 < len(self.layers):
                x = x.relu()
        return x


def main() -> None:
    """Mesh it, drop what is not joined to the dress, write it, and say what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("network", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--depth", type=int, default=8)
    args = parser.parse_args()
    found = mesh_unsigned(Distance(args.network), args.depth, low=LOW, side=SIDE, noise=NOISE)
    mesh = Mesh(*large_pieces(found.mesh.vertices, found.mesh.faces, 0.5))
    write_mesh(args.out, mesh, None, vertex_normals(mesh.vertices, mesh.faces))
    for name, value in MeshReport.of(mesh).json().items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
