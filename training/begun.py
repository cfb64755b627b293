"""Runs of a comparison that are there already: whether they were begun as is asked for now, whether they are done."""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

from polyfield.datasets.fingerprint import file_fingerprint
from polyfield.datasets.load import scene_fingerprint
from polyfield.datasets.scene import fingerprint_difference
from polyfield.datasets.wishes import positive_seconds, whole_number
from polyfield.errors import InputError
from polyfield.training.run_folder import RunFolder

__all__ = [
    "Asked",
    "Length",
    "begun_config",
    "check_settings",
    "is_done",
    "length_as_begun",
    "pixels_as_begun",
]

Length = tuple[float | None, int | None]
"""Seconds or steps of a run; neither: nothing was said."""

_ANEW = "choose another --out, or replace the runs with --overwrite."


@dataclass(frozen=True)
class Asked:
    """What all runs of a comparison have in common.

    Attributes:
        source: Scene or file.
        kind: What is fitted to it; None: posed images.
        downscale: Of posed images.
        seed: Of each run.
    """

    source: Path | str
    kind: str | None
    downscale: int
    seed: int

    @cached_property
    def fingerprint(self) -> str:
        """Of the source, read when it is asked for first; no image is decoded.

        Raises:
            InputError: There is no such scene or file, or it cannot be read.
        """
        if self.kind is None:
            return scene_fingerprint(self.source)
        try:
            return file_fingerprint(self.source)
        except OSError as error:
            raise InputError(f"{self.source} cannot be read: {error.strerror}.") from None


def begun_config(folder: Path) -> dict[str, Any]:
    """Read the config of a run; one that is no object says nothing."""
    config = RunFolder.open(folder).read_config()
    return config if isinstance(config, dict) else {}


def pixels_as_begun(config: dict[str, Any]) -> float | None:
    """Give the pixels that a run's sizes follow; None where it has none, or nothing that could be such a number.

    Args:
        config: Of the run.
    """
    pixels = config.get("pixels")
    if not isinstance(pixels, int | float) or not math.isfinite(pixels) or pixels <= 0:
        return None
    return float(pixels)


def length_as_begun(folder: Path, config: dict[str, Any], asked: Asked, length: Length) -> Length:
    """Refuse to go on with a run of something else, or of another length or seed: what is compared is trained alike.

    Args:
        folder: Of the run.
        config: Its config.
        asked: What is asked for now.
        length: The same.

    Returns:
        The run's budget and steps.

    Raises:
        InputError: It is not alike.
    """
    if config.get("fit") != asked.kind or not _same_source(config, asked):
        given = asked.source if asked.kind is None else f"{asked.source} --as {asked.kind}"
        raise InputError(f"{folder} is a run of something else than {given}; {_ANEW}")
    if asked.kind is None and config.get("downscale") != asked.downscale:
        raise InputError(
            f"{folder} was begun with images reduced by {config.get('downscale')}, but now they are reduced by "
            f"{asked.downscale}; give the same --downscale, {_ANEW}"
        )
    budget, steps = config.get("budget"), config.get("steps")
    begun = (
        None if budget is None else positive_seconds(budget, f"The budget in {folder}/config.json"),
        None if steps is None else whole_number(steps, f"steps in {folder}/config.json", 1),
    )
    if config.get("seed") != asked.seed or length not in ((None, None), begun):
        raise InputError(
            f"{folder} has seed {config.get('seed')} and a plan of {_told(begun)}, which is not what is asked for; "
            f"ask for the same, {_ANEW}"
        )
    return begun


def is_done(metrics: Any, length: Length) -> TypeGuard[dict[str, Any]]:
    """Whether a run was measured at the end of its plan: one that is on its way can be evaluated too.

    Args:
        metrics: What its metrics.json holds, None where there is none.
        length: Of its plan.
    """
    if not isinstance(metrics, dict) or not isinstance(metrics.get("steps"), int):
        return False
    plan = zip(("train_seconds", "steps"), length, strict=True)
    return all(
        end is None or (isinstance(metrics.get(key), int | float) and metrics[key] >= end)
        for key, end in plan
    )


def check_settings(folder: Path, was: dict[str, Any], wished: dict[str, Any]) -> None:
    """Refuse to go on with a run that was begun with other settings than are asked for.

    Args:
        folder: Of the run.
        was: Sections of its config.
        wished: The same sections as they would be now.

    Raises:
        InputError: They differ in a key that both have.
    """
    found = _difference(was, wished)
    if found is not None:
        key, *values = found
        old, new = (json.dumps(value)[:60] for value in values)
        raise InputError(
            f"{folder} was begun with {key[1:]}={old}, but now that is {new}; give the same --set, {_ANEW}"
        )


def _same_source(config: dict[str, Any], asked: Asked) -> bool:
    recorded = config.get("fingerprint")
    if asked.kind is not None:
        return recorded == asked.fingerprint
    return fingerprint_difference(str(recorded), asked.fingerprint) is None


def _told(length: Length) -> str:
    budget, steps = length
    return f"{budget:g} seconds" if budget is not None else f"{steps} steps"


def _difference(begun: Any, wished: Any) -> tuple[str, Any, Any] | None:
    """Find the first key in which both differ; one that only one of two versions of Polyfield knows is none."""
    if not isinstance(begun, dict) or not isinstance(wished, dict):
        return None if begun == wished else ("", begun, wished)
    for key in begun:
        found = _difference(begun[key], wished[key]) if key in wished else None
        if found is not None:
            return f".{key}{found[0]}", *found[1:]
    return None
