"""Presets: named configs, data only. Each JSON file is one; its folder says what kind of thing it fits."""

import json
from importlib.resources import files
from typing import Any

from polyfield.errors import ConfigError, nearest

__all__ = ["preset", "preset_names"]


def preset_names(kind: str = "radiance") -> list[str]:
    """Name all presets of a kind, sorted.

    Args:
        kind: "radiance" for posed images, "image" for single ones, "sphere" for what lies on one, "sdf"
            and "occupancy" for meshes: a folder here.
    """
    found = (entry.name for entry in (files(__name__) / kind).iterdir())
    return sorted(name.removesuffix(".json") for name in found if name.endswith(".json"))


def preset(name: str, kind: str = "radiance") -> dict[str, Any]:
    """Read a preset.

    Returns:
        JSON with "kind" of the model, "field", "train", for radiance fields "render", and "plans": for growing
        training times the settings that replace those of the base. Sizes in "per_pixel", if there are any, are no
        larger than so many times the pixels that span the domain. Where another field is what it learns from, the
        settings "taught", if there are any, replace all these.

    Raises:
        ConfigError: There is no such preset of this kind; the nearest name is told.
    """
    names = preset_names(kind)
    if name not in names:
        of = "" if kind == "radiance" else f" for --as {kind}"
        raise ConfigError(f"There is no field preset {name!r}{of}.{nearest(name, names)}")
    text = (files(__name__) / kind / f"{name}.json").read_text("utf-8")
    data: dict[str, Any] = json.loads(text)
    return data
