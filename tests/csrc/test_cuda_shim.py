"""The CUDA kernels, executed on the host by the shim: arithmetic, barriers, shuffles and shared memory; no GPU."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SHIM = importlib.util.find_spec("polyfield._cuda_shim")
pytestmark = pytest.mark.skipif(
    SHIM is None, reason="built without the host shim (-C cmake.define.POLYFIELD_CUDA_SHIM=ON)"
)
FAMILIES = ["spherical_harmonics", "frequency", "hash_grid", "mlp", "composite", "march", "adam"]


@pytest.fixture(scope="module")
def cuda_check() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "cuda_check.py"
    spec = importlib.util.spec_from_file_location("cuda_check", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"])
def shim(request: pytest.FixtureRequest) -> Any:
    """The module, with each block's threads run from the first to the last or the other way round."""
    from polyfield import _cuda_shim

    _cuda_shim.set_run_backwards(request.param)
    yield _cuda_shim
    _cuda_shim.set_run_backwards(False)


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_against_references(family: str, shim: Any, cuda_check: ModuleType) -> None:
    """300 points: more than a block of every kernel but the largest, and no multiple of a warp."""
    checks = list(getattr(cuda_check.Checks(shim, "cpu", 300), family)())
    assert checks
    for check in checks:
        assert check.error <= check.allowed, check


def test_every_family_is_checked(cuda_check: ModuleType) -> None:
    offered = {name for name in vars(cuda_check.Checks) if not name.startswith("_")}
    assert offered - {"stream", "random", "uniform", "empty", "inside_cells"} == set(FAMILIES)


def test_a_network_too_wide_is_told(shim: Any) -> None:
    with pytest.raises(ValueError, match="widths up to 256, but the width is 300"):
        shim.mlp_forward(
            *((1, 1, 300, 1, 1, False, 0, 0), (1.0, 0.0, 0.0)),
            *(((0, 1, 1), 1, 0, 0, 0, 0), 0, (0, 1, 1), 1, 0),
        )
