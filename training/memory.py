"""Whether a model can be trained with the memory that is free, found out before any is taken for it."""

from typing import Any

import torch

from polyfield.datasets.images import free_memory
from polyfield.errors import InputError
from polyfield.fields.model import build_model

__all__ = ["check_memory"]

# Of a parameter: its value, its gradient and Adam's two moments in float32, and Adam's count of its steps.
_BYTES = 4 * 4 + 2


def check_memory(kind: str, config: dict[str, Any]) -> None:
    """Refuse a model whose parameters, and what training keeps for each, do not fit into the memory that is free.

    Args:
        kind: Of the model.
        config: As `build_model` takes it.

    Raises:
        InputError: They do not fit.
        ConfigError: The model cannot be built.
    """
    with torch.device("meta"):  # shapes only
        parameters = build_model(kind, config).module.parameters()
    count = sum(parameter.numel() for parameter in parameters)
    needed, free = count * _BYTES, free_memory()
    if needed > free:
        raise InputError(
            f"To train this field's {count / 1e6:.0f} million parameters takes {needed / 1e9:.1f} GB of memory, but "
            f"{free / 1e9:.1f} GB are free; choose a smaller one, as with --set field.encoder.log2_table=19."
        )
