"""The scene of a run: where it comes from, where to look for it again, and whether it is still the same."""

from pathlib import Path

from polyfield.datasets.builtin import builtin_fingerprint
from polyfield.datasets.load import load_scene
from polyfield.datasets.scene import Scene, fingerprint_difference
from polyfield.errors import InputError
from polyfield.training.progress import Progress
from polyfield.training.run_config import RunConfig
from polyfield.training.running import Tell

__all__ = ["Source", "find_again", "hint_of", "load_source"]

Source = Path | str | Scene


def hint_of(scene: Source | None) -> str | None:
    """Say where to look for a scene again; None for the built-in one and for scenes in memory."""
    if scene is None or isinstance(scene, Scene) or str(scene) == "builtin":
        return None
    return str(Path(scene).resolve())


def load_source(scene: Source | None, format: str | None, downscale: int, tell: Tell) -> Scene:
    """Load a scene, and tell what was found; one in memory is taken as it is.

    Raises:
        InputError: It cannot be read, or it is in memory and was to be read in some way.
    """
    if isinstance(scene, Scene):
        if downscale not in (1, scene.images.downscale):
            raise InputError(
                f"The scene {scene.name} is in memory, reduced by {scene.images.downscale}, so it cannot be reduced by "
                f"{downscale}; give downscale={downscale} to load_scene instead."
            )
        if format not in (None, scene.format):
            raise InputError(
                f"The scene {scene.name} is in memory, so it cannot be read as {format!r}; give the format to "
                "load_scene instead."
            )
        return scene
    loaded = load_scene(scene, format=format, downscale=downscale)
    tell(Progress(message=f"{loaded.name}: {len(loaded.names)} views. {loaded.reason}"))
    for warning in loaded.warnings:
        tell(Progress(message=f"Warning: {warning}"))
    return loaded


def find_again(
    scene: Source | None, config: RunConfig, tell: Tell, run: Path | str
) -> tuple[Scene, str | None]:
    """Load the scene of an older run.

    Args:
        scene: Where it is now; None: where it was.
        config: Of the run.
        tell: Told what was found.
        run: How to call the run in messages.

    Returns:
        The scene, and in what it differs from the run's; None: in nothing.

    Raises:
        InputError: It is not given but was in memory, cannot be read, or is in memory at another size.
    """
    builtin = fingerprint_difference(config.fingerprint, builtin_fingerprint()) is None
    if scene is None and config.scene is None and not builtin:
        raise InputError(
            f"The scene that {run} was trained on was in memory, so it cannot be found again; name a folder with "
            "its images (--scene with eval, SCENE with train --resume), or give the scene itself in Python."
        )
    if isinstance(scene, Scene) and scene.images.downscale != config.downscale:
        raise InputError(
            f"The scene {scene.name} is reduced by {scene.images.downscale}, but {run} was trained on images reduced "
            f"by {config.downscale}; load it with downscale={config.downscale}."
        )
    source = config.scene if scene is None else scene
    # Another scene may be of another format than the one that was asked for.
    format = config.format if scene is None else None
    loaded = load_source(source, format, config.downscale, tell)
    return loaded, fingerprint_difference(config.fingerprint, loaded.fingerprint)
