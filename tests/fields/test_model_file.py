"""Field files: what does not fit its config is refused before it costs anything."""

import resource
import time
from pathlib import Path

import pytest
import torch

from polyfield.errors import DataError, RunError
from polyfield.fields import model_file, tensor_file
from polyfield.fields.model import Model, build_model
from polyfield.fields.presets import preset


def small_model() -> Model:
    field = preset("hashgrid")["field"]
    field["encoder"] |= {"levels": 3, "log2_table": 8, "finest": 32.0}
    domain = {"kind": "box", "low": [0.0] * 3, "high": [1.0] * 3}
    return build_model("radiance", {"field": field, "domain": domain})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "field.safetensors"
    model_file.save(small_model(), path)
    return path


def rewrite(path: Path, **changes: torch.Tensor) -> None:
    """Change tensors of a file behind the back of `save`."""
    tensors, note = tensor_file.read(path)
    tensor_file.write(path, {**tensors, **changes}, note)


def test_it_comes_back(file: Path) -> None:
    wanted = small_model().module.state_dict()
    came = model_file.load(file).module.state_dict()
    assert wanted.keys() == came.keys()
    assert all(torch.equal(came[name], wanted[name]) for name in wanted)
    assert all(tensor.device.type == "cpu" for tensor in came.values())


def test_a_huge_config_costs_neither_time_nor_memory(file: Path) -> None:
    """The table would take 2.6 GB with its gradient; the file has a few kilobytes."""
    tensors, note = tensor_file.read(file)
    note["config"]["field"]["encoder"] |= {"log2_table": 26, "finest": 4096.0}
    tensor_file.write(file, tensors, note)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(DataError, match=r"'encoder.table' must be torch.float32 of shape"):
        model_file.load(file)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 500_000  # KiB (bytes on macOS, where this asks for more)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_infinite_weights_are_refused(file: Path, value: float) -> None:
    name = "weights.color_head.weights"
    tensors, _ = tensor_file.read(file)
    tensors[name][3] = value
    rewrite(file, **{name: tensors[name]})
    with pytest.raises(DataError, match=r"'color_head.weights' of its field are not all finite"):
        model_file.load(file)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_weights_that_are_not_finite_are_not_written(file: Path, value: float) -> None:
    before, model = file.read_bytes(), small_model()
    with torch.no_grad():
        model.module.color_head.weights[0] = value
    with pytest.raises(RunError, match=r"'color_head.weights' are not all finite"):
        model_file.save(model, file)
    assert file.read_bytes() == before


def test_a_tensor_of_no_part_is_refused(file: Path) -> None:
    rewrite(file, zzz=torch.zeros(1))
    with pytest.raises(DataError, match="'zzz' that is no part of a field"):
        model_file.load(file)
