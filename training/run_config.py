"""The config of a run: a preset spelled out for a plan and a scene, with the user's changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyfield.config import from_json, to_json, with_changes
from polyfield.errors import ConfigError, InputError, nearest
from polyfield.fields.presets import preset
from polyfield.fields.radiance import RadianceConfig
from polyfield.renderers.volume import VolumeConfig
from polyfield.training.radiance import RadianceTraining
from polyfield.training.saved_run import SavedRun

__all__ = [
    "BACKGROUNDS",
    "ConversionConfig",
    "RunConfig",
    "plan_settings",
    "read_run_config",
    "spell_out",
    "spell_sections",
]

# Behind transparent pixels; None is a random colour for each ray.
BACKGROUNDS: Mapping[str, tuple[float, float, float] | None] = {
    "random": None,
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
}

_PRECISIONS = ("fp32", "bf16")

_COARSEST = 64  # cells along a side that a grid has at least, however small the pictures are


@dataclass(frozen=True)
class RunConfig(SavedRun):
    """What config.json of a run on posed images holds.

    Attributes:
        scene: Path of the scene when the run was started, a hint; None: the built-in scene.
        format: Format that was asked for, or None.
        downscale: Factor by which the images were reduced.
        background: A key of `BACKGROUNDS`.
        train: As `RadianceTraining`.
        pixels: What `polyfield.training.sharpness.pixels_across` said of the scene; None: nothing was reduced to it.
    """

    SECTIONS = (*SavedRun.SECTIONS, "render")

    scene: str | None
    format: str | None
    downscale: int
    background: str
    pixels: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.background not in BACKGROUNDS:
            raise ConfigError(
                f"The background must be random, white or black, but is {self.background!r}."
                f"{nearest(self.background, BACKGROUNDS)}"
            )


@dataclass(frozen=True)
class ConversionConfig(RunConfig):
    """What config.json of a conversion holds; its scene is that of the teacher, where that is known.

    Attributes:
        teacher: Path of the teacher when the run was started, a hint.
        taught_by: Fingerprint of the teacher's file.
        from_scene: Whether the teacher is looked at from the cameras of the scene; else from near those of its capture.
        train: As `Distillation`.
    """

    teacher: str
    taught_by: str
    from_scene: bool


def read_run_config(data: Any, run: Path | str) -> RunConfig:
    """Read what config.json of a run on posed images, or of a conversion, holds.

    Args:
        data: JSON.
        run: How to call the run in messages.

    Raises:
        InputError: It is a fit.
        ConfigError: It is broken.
    """
    if isinstance(data, dict) and "fit" in data:
        raise InputError(f"{run} was made by polyfield fit, not by polyfield train.")
    conversion = isinstance(data, dict) and "teacher" in data
    return from_json(ConversionConfig if conversion else RunConfig, data, "config.json")


def plan_settings(
    name: str,
    length: tuple[int | None, float | None],
    kind: str = "radiance",
    pixels: float | None = None,
) -> list[str]:
    """Find what a preset changes for the length of a run, and for what its cameras see, as KEY=VALUE settings.

    Args:
        name: Of the preset.
        length: Steps and seconds, of which one is None.
        kind: Of the preset.
        pixels: How many span the domain; None: nothing is known of cameras.
    """
    base = preset(name, kind)
    settings = _plan_for(base, *length)
    if pixels is None:
        return settings
    for path, share in base.get("per_pixel", {}).items():
        planned = [s.partition("=")[2] for s in settings if s.partition("=")[0] == path]
        value: Any = base
        for key in path.split("."):
            value = value[key]
        finest = float(planned[-1] if planned else value)
        settings.append(f"{path}={min(finest, max(share * pixels, _COARSEST)):.0f}")
    return settings


def _plan_for(base: Mapping[str, Any], steps: int | None, budget: float | None) -> list[str]:
    for plan in base["plans"]:
        longest = plan["seconds"] if budget is not None else plan["steps"]
        if (budget if budget is not None else steps or 0) <= longest:
            return list(plan["set"])
    return []


def spell_out(
    name: str,
    settings: Sequence[str],
    placed: tuple[dict[str, Any], dict[str, Any]],
    precision: str | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Turn a preset of a radiance field into configs in which every key is there.

    Args:
        name: Of the preset.
        settings: KEY=VALUE changes, the later ones win; keys begin with field, render or train.
        placed: Domain and renderer settings from the scene.
        precision: "fp32" or "bf16" for all heads, or None to leave them as they are.

    Returns:
        model: "kind", "field", "domain", "render".
        train: As `RadianceTraining`.

    Raises:
        ConfigError: An unknown preset, key, value or precision.
    """
    base = preset(name)
    domain, render = placed
    config = {
        "field": base["field"],
        "render": {**render, **base["render"]},
        "train": base["train"],
    }
    readers = {"field": RadianceConfig, "render": VolumeConfig, "train": RadianceTraining}
    config = spell_sections(config, readers, settings, precision)
    model = {"kind": base["kind"], "domain": domain}
    return model | {k: config[k] for k in ("field", "render")}, config["train"]


def spell_sections(
    config: Mapping[str, Any],
    readers: Mapping[str, type],
    settings: Sequence[str],
    precision: str | None,
) -> dict[str, Any]:
    """Turn the sections of a config into ones in which every key is there.

    Args:
        config: By section, "field" among them.
        readers: The dataclass of each section.
        settings: KEY=VALUE changes, the later ones win; keys begin with a section.
        precision: "fp32" or "bf16" for all parts of the field that have one, or None to leave them as they are.

    Raises:
        ConfigError: An unknown key, value or precision.
    """
    if precision is not None and precision not in _PRECISIONS:
        raise InputError(f"The precision must be fp32 or bf16, but is {precision!r}.")
    result = _complete(with_changes(_complete(config, readers), settings), readers)
    for part in result["field"].values():
        if precision is not None and isinstance(part, dict) and "precision" in part:
            part["precision"] = precision
    return result


def _complete(config: Mapping[str, Any], readers: Mapping[str, type]) -> dict[str, Any]:
    return {key: to_json(from_json(cls, config[key], key)) for key, cls in readers.items()}
