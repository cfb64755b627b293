"""Small fields of all presets, for the tests that ask native code and modules for the same."""

from collections.abc import Callable

import pytest
import torch
from torch import Generator

from polyfield.config import from_json
from polyfield.fields.domain import Domain
from polyfield.fields.presets import preset
from polyfield.fields.radiance import RadianceConfig, RadianceField

SMALLER: dict[str, dict[str, object]] = {
    "hash_grid": {"log2_table": 10},
    "kplanes": {"base": 16, "scales": [1, 2]},
    "vm": {"side": 16},
    "cp": {"side": 16},
    "voxels": {"side": 8},
    "neurbf": {"kernels": 300, "grid": {"kind": "hash_grid", "levels": 3, "log2_table": 10}},
    "frequency": {"octaves": 4},
}


@pytest.fixture
def small_field() -> Callable[..., RadianceField]:
    """Makes the field of a preset, small, with changes to its config; a gate is neither open nor closed everywhere."""

    def make(name: str, domain: Domain, **changes: object) -> RadianceField:
        data = preset(name)["field"] | changes
        for slot in ("encoder", "appearance_encoder"):
            if data.get(slot):
                data[slot] |= SMALLER[data[slot]["kind"]]
        if data["density_head"].get("hidden", 1) > 2:
            data["density_head"] |= {"width": 32, "hidden": 3, "skips": [2]}
        made = RadianceField(from_json(RadianceConfig, data), domain, seed=3)
        if made.gate is not None:
            with torch.no_grad():
                made.gate.grid.normal_(generator=Generator().manual_seed(4))
        return made

    return make
