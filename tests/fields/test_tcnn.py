import json
from typing import Any

import pytest
import torch

from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.ops.hash_grid import GridGeometry
from polyfield.fields.ops.mlp import MlpShape, mlp
from polyfield.fields.tcnn import (
    read_grid,
    read_network,
    read_params,
    write_grid,
    write_network,
    write_params,
)

GEOMETRIES = [
    GridGeometry(),
    GridGeometry(levels=8, features=4),
    GridGeometry(dim=2, levels=3, kind="dense", finest=64, interpolation="smoothstep"),
    GridGeometry(levels=5, features=1, kind="tiled", base=4, growth=1.5),
    GridGeometry(levels=1, log2_table=12),
]
NETWORKS = [
    MlpShape(32, 3, 64, 2, output_activation="sigmoid"),
    MlpShape(32, 16, 64, 2),
    MlpShape(10, 3, 64, 1),
    MlpShape(20, 1, 48, 3, activation="none"),
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_grid_config_round_trip(geometry: GridGeometry) -> None:
    again = read_grid(json.loads(json.dumps(write_grid(geometry))), geometry.dim)
    assert again.levels_table == geometry.levels_table
    assert (again.features, again.interpolation) == (geometry.features, geometry.interpolation)


@pytest.mark.parametrize("shape", NETWORKS)
def test_network_config_round_trip(shape: MlpShape) -> None:
    data = json.loads(json.dumps(write_network(shape)))
    assert read_network(data, shape.inputs, shape.outputs) == shape


def test_the_shipped_image_config() -> None:
    data = {
        "otype": "HashGrid",
        "n_levels": 16,
        "n_features_per_level": 2,
        "log2_hashmap_size": 15,
        "base_resolution": 16,
        "per_level_scale": 1.5,
    }
    geometry = read_grid(data, 2)
    assert geometry.resolutions[:4] == (16, 24, 36, 54)
    assert geometry.entries == sum(min(-(-(r**2) // 8) * 8, 2**15) for r in geometry.resolutions)


def test_defaults_are_those_of_tiny_cuda_nn() -> None:
    assert read_grid({"otype": "HashGrid"}, 3).entries * 2 == 14_229_504
    assert read_network({"otype": "MLP"}, 16, 16) == MlpShape(16, 16, 128, 5)


@pytest.mark.parametrize("shape", NETWORKS)
def test_params_round_trip_and_their_length(shape: MlpShape) -> None:
    geometry = GridGeometry(levels=2, log2_table=8)
    table, weights = torch.randn(geometry.entries, 2), torch.randn(shape.parameters)
    flat = write_params(table, weights, shape)
    inputs, outputs = -(-shape.inputs // 16) * 16, -(-shape.outputs // 16) * 16
    hidden = shape.width * (inputs + outputs) + (shape.hidden - 1) * shape.width**2
    assert flat.shape == (hidden + table.numel(),)
    assert torch.equal(flat[hidden:], table.reshape(-1))
    again = read_params(flat, geometry, shape)
    assert torch.equal(again[0], table)  # type: ignore[arg-type]
    assert torch.equal(again[1], weights)  # type: ignore[arg-type]
    half = read_params(flat.half(), geometry, shape)
    assert torch.equal(half[1], weights.half().float())  # type: ignore[arg-type]


def test_padded_matrices_compute_what_ours_do() -> None:
    shape = MlpShape(10, 3, 16, 1)
    weights, x = torch.randn(shape.parameters), torch.randn(5, 10)
    flat = write_params(None, weights, shape)
    first, last = flat[:256].view(16, 16), flat[256:].view(16, 16)
    padded = torch.nn.functional.pad(x, (0, 6))  # a grid pads with zeros
    wanted = (padded @ first.t()).relu() @ last.t()
    # sums of 16 products of normal numbers in another order: a few 2^-24 of about 10
    torch.testing.assert_close(mlp(x, weights, shape), wanted[:, :3], rtol=1e-5, atol=1e-5)
    assert wanted[:, 3:].eq(0).all()


def test_either_part_alone() -> None:
    geometry, shape = GridGeometry(levels=1, log2_table=12), MlpShape(16, 16, 16, 1)
    table, weights = torch.randn(geometry.entries, 2), torch.randn(shape.parameters)
    assert read_params(write_params(table, None, None), geometry, None)[1] is None
    assert read_params(write_params(None, weights, shape), None, shape)[0] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"otype": "HashGird"}, "encoding.otype 'HashGird' is not known. Did you mean 'HashGrid'"),
        ({"n_level": 3}, "no key 'n_level' that is known. Did you mean 'n_levels'"),
        ({"n_levels": "3"}, r"n_levels must be a number \(int\), but is '3'"),
        ({"interpolation": "Nearest"}, "encoding.interpolation 'Nearest' is not known"),
        ({"hash": "Rng"}, "encoding.hash must be 'CoherentPrime' here, but is 'Rng'"),
        ({"otype": "Grid", "type": "Sparse"}, "encoding.type 'Sparse' is not known"),
    ],
)
def test_grid_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_grid({"otype": "HashGrid"} | changes, 3)


def test_other_errors() -> None:
    with pytest.raises(ConfigError, match="encoding lacks the key 'otype'"):
        read_grid({}, 3)
    with pytest.raises(ConfigError, match=r"network\.otype 'Resnet' is not known"):
        read_network({"otype": "Resnet"}, 1, 1)
    with pytest.raises(ConfigError, match="must be 'None' or 'Sigmoid', but is 'Exponential'"):
        read_network({"otype": "MLP", "output_activation": "Exponential"}, 1, 1)
    with pytest.raises(ConfigError, match="layout 'torch-ngp' cannot be written"):
        write_grid(GridGeometry(layout="torch-ngp"))
    with pytest.raises(ConfigError, match="no biases, no skips"):
        write_network(MlpShape(1, 1, bias=True))
    with pytest.raises(ShapeError, match=r"are 512 \+ 0 numbers, but have the shape \[5\]"):
        read_params(torch.zeros(5), None, MlpShape(16, 16, 16, 1))
    with pytest.raises(ShapeError, match=r"the weights must be \[512\], but are \[5\]"):
        write_params(None, torch.zeros(5), MlpShape(16, 16, 16, 1))
