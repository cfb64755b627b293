"""Presets: named configs, data only. Each JSON file here is one."""

import json
from importlib.resources import files
from typing import Any

from polyfield.errors import ConfigError, nearest

__all__ = ["preset", "preset_names"]


def preset_names() -> list[str]:
    """Name all presets, sorted."""
    found = (entry.name for entry in files(__name__).iterdir())
    return sorted(name.removesuffix(".json") for name in found if name.endswith(".json"))


def preset(name: str) -> dict[str, Any]:
    """Read a preset.

    Returns:
        JSON with "kind", "field", "render", "train", and "plans": for growing training times the settings that
        replace those of the base.

    Raises:
        ConfigError: There is no such preset; the nearest name is told.
    """
    if name not in preset_names():
        raise ConfigError(f"There is no field preset {name!r}.{nearest(name, preset_names())}")
    data: dict[str, Any] = json.loads((files(__name__) / f"{name}.json").read_text("utf-8"))
    return data
