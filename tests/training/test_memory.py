"""A model that does not fit into memory is refused before any is taken."""

import resource

import pytest

from polyfield.errors import InputError
from polyfield.fields.model import build_model
from polyfield.fields.presets import preset
from polyfield.training import memory
from polyfield.training.adam import Adam, AdamGroup
from polyfield.training.memory import check_memory

DOMAIN = {"kind": "box", "low": [0, 0, 0], "high": [1, 1, 1]}


def config(**encoder: object) -> dict:
    field = preset("hashgrid")["field"]
    return {"field": {**field, "encoder": field["encoder"] | encoder}, "domain": DOMAIN}


def test_a_model_that_does_not_fit_is_refused_without_being_built() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as caught:  # 13 TB, which no machine has
        check_memory("radiance", config(log2_table=31, levels=64, features=8, finest=1e6))
    assert "takes 12491.1 GB of memory, but " in str(caught.value)
    assert "--set field.encoder.log2_table=19" in str(caught.value)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000  # KiB


def test_what_is_counted_is_what_training_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values, gradients, and all that Adam keeps."""
    groups = build_model("radiance", config(log2_table=12)).module.groups()
    adam = Adam(
        [AdamGroup(g.name, g.parameters, 0.1, [g.gradient] * len(g.parameters)) for g in groups]
    )
    values = sum(p.numel() * p.element_size() for g in groups for p in g.parameters)
    kept = sum(t.numel() * t.element_size() for t in adam.state_dict().values() if t.ndim)
    monkeypatch.setattr(memory, "free_memory", lambda: 2 * values + kept)
    check_memory("radiance", config(log2_table=12))
    monkeypatch.setattr(memory, "free_memory", lambda: 2 * values + kept - 1)
    with pytest.raises(InputError, match=r"0.0 GB of memory, but 0.0 GB are free"):
        check_memory("radiance", config(log2_table=12))
