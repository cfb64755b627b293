"""Pruning a trained radiance field: what its gate lets next to nothing through is closed, and dropped from its tables.

It acts on the model that is saved. A run that goes on does so from its state, in which nothing is closed.
"""

from dataclasses import replace

from polyfield.config import to_json
from polyfield.errors import ConfigError
from polyfield.fields.model import Model
from polyfield.fields.radiance import RadianceField
from polyfield.fields.registry import Closing, Dropping

__all__ = ["prune"]


def prune(model: Model, below: float) -> bool:
    """Close the gate of a model where it is small, and drop what is then never read; files leave it out.

    Args:
        model: Changed in place, its config too. Without a gate that can be closed it stays as it is; so does one whose
            field looks at whole rays, for what is left out of a ray changes the rest of it.
        below: A gate's factor on features that counts as nothing, in (0, 1].

    Returns:
        Whether it was pruned.

    Raises:
        ConfigError: `below` is out of its range.

    Holds:
        Where the gate is open, density and features are what they were, to the last bit; elsewhere density is 0.
        Pruning again changes nothing.
    """
    if not 0 < below <= 1:
        raise ConfigError(f"prune: below must be in (0, 1], but is {below}.")
    field = model.module
    if not isinstance(field, RadianceField) or not isinstance(field.gate, Closing):
        return False
    if not field.pointwise:
        return False
    changed, cells = field.gate.close(below)
    if isinstance(field.encoder, Dropping):
        field.encoder.drop(cells)
    field.config = replace(field.config, gate={**(field.config.gate or {}), **changed})
    model.config["field"] = to_json(field.config)
    return True
