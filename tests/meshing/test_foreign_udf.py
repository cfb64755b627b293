"""The example that meshes a foreign network: one open dress."""

import subprocess
import sys
from pathlib import Path

import torch

from polyfield.datasets.mesh_file import read_mesh
from polyfield.meshing.pieces import pieces

EXAMPLE = Path(__file__).parents[2] / "examples" / "foreign_udf.py"


def test_a_dress_of_a_foreign_network(data_dir: Path, tmp_path: Path) -> None:
    network, out = data_dir / "models" / "dcudf-cloth564-udf.pth", tmp_path / "dress.ply"
    line = [sys.executable, str(EXAMPLE), str(network), str(out), "--depth", "6"]
    told = subprocess.run(line, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "watertight: False" in told.stdout
    mesh = read_mesh(out)
    assert pieces(mesh.faces, len(mesh.vertices))[1] == 1
    low, high = mesh.box
    # Where the network's surface is, by the values of a fine grid; a cell is 0.017 wide.
    expected = torch.tensor([[-0.24, -0.5, -0.195], [0.24, 0.5, 0.195]], dtype=torch.float64)
    assert float((torch.stack([low, high]) - expected).abs().max()) < 0.02
