"""What a run's model is worth: measured on views of a scene, in the form of metrics.json."""

from pathlib import Path
from typing import Any

from polyfield.datasets.scene import Scene
from polyfield.fields import model_file
from polyfield.fields.model import Model
from polyfield.fields.pruning import prune
from polyfield.training.evaluation import evaluate_model
from polyfield.training.lpips import load_lpips
from polyfield.training.progress import Progress
from polyfield.training.run_folder import RunFolder
from polyfield.training.running import Tell, model_facts

__all__ = ["measure", "prune_saved", "trained_downscale"]


def measure(
    model: Model,
    scene: Scene,
    file: Path,
    tell: Tell,
    split: str = "test",
    pictures: Path | None = None,
    lpips: Path | None = None,
) -> dict[str, Any]:
    """Compare a model with the photographs of a scene.

    Args:
        model: Of a kind that is drawn.
        scene: What it should look like.
        file: Where it is saved.
        tell: Told how it goes.
        split: "train", "val" or "test".
        pictures: Folder to save what is seen to; None: it is not.
        lpips: File with weights of LPIPS; None: it is not computed.

    Returns:
        What metrics.json holds.

    Raises:
        InputError: There is nothing in the split.
    """
    result = evaluate_model(
        model,
        scene,
        split,
        pictures=pictures,
        perceptual=None if lpips is None else load_lpips(lpips),
        on_view=lambda done, views: tell(
            Progress(step=done, steps=views, message=f"evaluated view {done} of {views}")
        ),
    )
    return {
        "field": model.info.get("preset"),
        "scene": scene.name,
        "split": result["split"],
        "views": result["views"],
        "psnr": result["psnr"],
        "ssim": result["ssim"],
        "lpips": result["lpips"],
        "per_view": result["per_view"],
        "render_seconds": result["render_seconds"],
        **model_facts(model, file),
    }


def prune_saved(model: Model, folder: RunFolder, below: float) -> None:
    """Drop from the saved model, and from what is evaluated, what its gate has closed. The state stays as it is.

    Args:
        model: Of a finished run.
        folder: Of the run.
        below: See `polyfield.fields.pruning`; 0: nothing is dropped.
    """
    if below and prune(model, below):
        folder.save_model(lambda path: model_file.save(model, path))


def trained_downscale(model: Model) -> int:
    """By how much the images were reduced that a model was trained on; 1 where it does not say."""
    protocol = model.info.get("protocol")
    downscale = protocol.get("downscale") if isinstance(protocol, dict) else None
    return downscale if isinstance(downscale, int) and downscale >= 1 else 1
