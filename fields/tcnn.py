"""Reading and writing tiny-cuda-nn: its JSON configs and flat `params` of grid encodings and networks.

A flat `params` holds the network first (matrices [out, in], row-major, no biases; the first layer's inputs and the last
layer's outputs padded to multiples of 16), then the table of the grid, level after level. Behind a grid the padding of
the inputs is fed with zeros, so those columns mean nothing: they are dropped in reading and zero in writing.

    geometry = read_grid(config["encoding"], dim=3)
    shape = read_network(config["network"], geometry.out_dim, 16)
    table, weights = read_params(module.params, geometry, shape)
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from polyfield.errors import ConfigError, ShapeError, nearest
from polyfield.fields.ops.hash_grid import GridGeometry
from polyfield.fields.ops.mlp import MlpShape

__all__ = [
    "read_grid",
    "read_network",
    "read_params",
    "write_grid",
    "write_network",
    "write_params",
]

_GRIDS = {"HashGrid": "hash", "DenseGrid": "dense", "TiledGrid": "tiled", "Grid": None}
_TYPES = {"Hash": "hash", "Dense": "dense", "Tiled": "tiled"}
_INTERPOLATIONS = {"Linear": "linear", "Smoothstep": "smoothstep"}
_NETWORKS = ("FullyFusedMLP", "CutlassMLP", "MLP")
_ACTIVATIONS = {"ReLU": "relu", "None": "none"}
_OUTPUT_ACTIVATIONS = {"None": "none", "Sigmoid": "sigmoid"}
_ALIGNMENT = 16  # columns of a matrix come in sixteens

# What each section may hold, with tiny-cuda-nn's defaults; None: no default that is of use here.
_GRID_KEYS: dict[str, Any] = {
    "otype": None,
    "type": "Hash",
    "n_levels": 16,
    "n_features_per_level": 2,
    "log2_hashmap_size": 19,
    "base_resolution": 16,
    "per_level_scale": 2.0,
    "interpolation": "Linear",
    "hash": "CoherentPrime",
    "stochastic_interpolation": False,
    "fixed_point_pos": False,
}
_NETWORK_KEYS: dict[str, Any] = {
    "otype": None,
    "activation": "ReLU",
    "output_activation": "None",
    "n_neurons": 128,
    "n_hidden_layers": 5,
}
_MUST_BE = {"hash": "CoherentPrime", "stochastic_interpolation": False, "fixed_point_pos": False}


def read_grid(data: Mapping[str, Any], dim: int) -> GridGeometry:
    """Read an "encoding" section.

    Args:
        data: The JSON object; missing keys have tiny-cuda-nn's defaults (growth 2).
        dim: Axes of the input, which the section does not say.

    Raises:
        ConfigError: Not a grid, an unknown key or value, or a setting that this program does not have.

    Example:
        >>> read_grid({"otype": "HashGrid", "n_levels": 4}, dim=3).resolutions
        (16, 32, 64, 128)
    """
    values = _with_defaults(data, _GRID_KEYS, "encoding")
    kind = _one_of(values["otype"], _GRIDS, "encoding.otype")
    if kind is None:
        kind = _one_of(values["type"], _TYPES, "encoding.type")
    for key, wanted in _MUST_BE.items():
        if values[key] != wanted:
            raise ConfigError(
                f"encoding.{key} must be {wanted!r} here, but is {values[key]!r}: not supported."
            )
    return GridGeometry(
        dim=dim,
        levels=_number(values, "n_levels", "encoding", int),
        features=_number(values, "n_features_per_level", "encoding", int),
        log2_table=_number(values, "log2_hashmap_size", "encoding", int),
        base=_number(values, "base_resolution", "encoding", int),
        growth=_number(values, "per_level_scale", "encoding", float),
        kind=kind,
        interpolation=_one_of(values["interpolation"], _INTERPOLATIONS, "encoding.interpolation"),
    )


def write_grid(geometry: GridGeometry) -> dict[str, Any]:
    """Write an "encoding" section.

    Raises:
        ConfigError: The grid has another layout than tiny-cuda-nn's.
    """
    if geometry.layout != "tcnn":
        raise ConfigError(
            f"A grid of layout {geometry.layout!r} cannot be written for tiny-cuda-nn: its tables have "
            f"other sizes. Convert it into one of layout 'tcnn'."
        )
    return {
        "otype": "Grid",
        "type": _name_of(geometry.kind, _TYPES),
        "n_levels": geometry.levels,
        "n_features_per_level": geometry.features,
        "log2_hashmap_size": geometry.log2_table,
        "base_resolution": geometry.base,
        "per_level_scale": geometry.per_level_scale,
        "interpolation": _name_of(geometry.interpolation, _INTERPOLATIONS),
    }


def read_network(data: Mapping[str, Any], inputs: int, outputs: int) -> MlpShape:
    """Read a "network" section; the output activation is left to the caller and must be "None".

    Raises:
        ConfigError: Not a perceptron, an unknown key or value, or a setting that this program does not have.

    Example:
        >>> read_network({"otype": "FullyFusedMLP", "n_neurons": 64, "n_hidden_layers": 1}, 32, 16).parameters
        3072
    """
    values = _with_defaults(data, _NETWORK_KEYS, "network")
    if values["otype"] not in _NETWORKS:
        raise ConfigError(
            f"network.otype {values['otype']!r} is not known."
            f"{nearest(str(values['otype']), _NETWORKS)}"
        )
    if values["output_activation"] not in _OUTPUT_ACTIVATIONS:
        raise ConfigError(
            f"network.output_activation must be 'None' or 'Sigmoid', but is {values['output_activation']!r}; "
            "take 'None' and apply it to the result."
        )
    return MlpShape(
        inputs=inputs,
        outputs=outputs,
        width=_number(values, "n_neurons", "network", int),
        hidden=_number(values, "n_hidden_layers", "network", int),
        activation=_one_of(values["activation"], _ACTIVATIONS, "network.activation"),
        output_activation=_OUTPUT_ACTIVATIONS[values["output_activation"]],
    )


def write_network(shape: MlpShape) -> dict[str, Any]:
    """Write a "network" section.

    Raises:
        ConfigError: tiny-cuda-nn has no such network: biases, skips or another activation.
    """
    strange = shape.bias or shape.skips or shape.composition
    if strange or shape.activation not in _ACTIVATIONS.values():
        raise ConfigError(
            "A network for tiny-cuda-nn has no biases, no skips, no composition and the activation 'relu' or 'none', "
            f"but this one has bias={shape.bias}, skips={shape.skips}, composition={shape.composition}, "
            f"activation={shape.activation!r}."
        )
    return {
        "otype": "FullyFusedMLP" if shape.width in (16, 32, 64, 128) else "CutlassMLP",
        "activation": _name_of(shape.activation, _ACTIVATIONS),
        "output_activation": _name_of(shape.output_activation, _OUTPUT_ACTIVATIONS),
        "n_neurons": shape.width,
        "n_hidden_layers": shape.hidden,
    }


def read_params(
    params: Float[Tensor, " P"], geometry: GridGeometry | None, shape: MlpShape | None
) -> tuple[Float[Tensor, "E F"] | None, Float[Tensor, " W"] | None]:
    """Take flat `params` apart.

    Args:
        params: Of any float type; the results are float32.
        geometry: The grid that it holds, or None.
        shape: The network that it holds, or None.

    Returns:
        The grid's table, and the flat weights of the network as `polyfield.fields.ops.mlp.mlp` takes them.

    Raises:
        ShapeError: `params` has another length than these parts need.
    """
    sizes = [_padded_size(shape), _table_size(geometry)]
    if params.dim() != 1 or params.shape[0] != sum(sizes):
        raise ShapeError(
            f"tiny-cuda-nn params of this network and grid are {sizes[0]} + {sizes[1]} numbers, but "
            f"have the shape {list(params.shape)}."
        )
    network, grid = params.detach().float().split(sizes)
    table = weights = None
    if geometry is not None:
        table = grid.reshape(geometry.entries, geometry.features).clone()
    if shape is not None:
        parts = []
        for (rows, columns), (out, inputs) in zip(shape.layers, _padded(shape), strict=True):
            matrix, network = network[: out * inputs].view(out, inputs), network[out * inputs :]
            parts.append(matrix[:rows, :columns].reshape(-1))
        weights = torch.cat(parts)
    return table, weights


def write_params(
    table: Float[Tensor, "E F"] | None, weights: Float[Tensor, " W"] | None, shape: MlpShape | None
) -> Float[Tensor, " P"]:
    """Join a table and a network's weights into flat `params`, float32; the padding is zero.

    Raises:
        ShapeError: `weights` are not those of `shape`.
    """
    parts = []
    if shape is not None or weights is not None:
        if shape is None or weights is None or weights.shape != (shape.parameters,):
            wanted = None if shape is None else shape.parameters
            came = None if weights is None else list(weights.shape)
            raise ShapeError(f"write_params: the weights must be [{wanted}], but are {came}.")
        write_network(shape)  # refuses what tiny-cuda-nn does not have
        for matrix, size in zip(shape.split(weights.detach().float()), _padded(shape), strict=True):
            padded = torch.zeros(size)
            padded[: matrix.shape[0], : matrix.shape[1]] = matrix
            parts.append(padded.reshape(-1))
    if table is not None:
        parts.append(table.detach().float().reshape(-1).cpu())
    return torch.cat(parts) if parts else torch.zeros(0)


def _padded(shape: MlpShape) -> list[tuple[int, int]]:
    """Sizes of the matrices as tiny-cuda-nn stores them."""
    sizes = [list(layer) for layer in shape.layers]
    sizes[0][1] = -(-sizes[0][1] // _ALIGNMENT) * _ALIGNMENT
    sizes[-1][0] = -(-sizes[-1][0] // _ALIGNMENT) * _ALIGNMENT
    return [(out, inputs) for out, inputs in sizes]


def _padded_size(shape: MlpShape | None) -> int:
    return 0 if shape is None else sum(out * inputs for out, inputs in _padded(shape))


def _table_size(geometry: GridGeometry | None) -> int:
    return 0 if geometry is None else geometry.entries * geometry.features


def _with_defaults(data: Mapping[str, Any], known: dict[str, Any], where: str) -> dict[str, Any]:
    for key in data:
        if key not in known:
            raise ConfigError(f"{where} has no key {key!r} that is known.{nearest(key, known)}")
    if "otype" not in data:
        raise ConfigError(f"{where} lacks the key 'otype'.")
    return known | dict(data)


def _number(values: Mapping[str, Any], key: str, where: str, kind: type) -> Any:
    value = values[key]
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        raise ConfigError(f"{where}.{key} must be a number ({kind.__name__}), but is {value!r}.")
    return kind(value)


def _one_of(value: object, known: Mapping[str, Any], where: str) -> Any:
    if not isinstance(value, str) or value not in known:
        raise ConfigError(f"{where} {value!r} is not known.{nearest(str(value), known)}")
    return known[value]


def _name_of(value: str, known: Mapping[str, str]) -> str:
    return next(name for name, ours in known.items() if ours == value)
