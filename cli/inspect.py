"""`polyfield inspect`: what is in a scene, a run or a field file, with a picture."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyfield.cli.arguments import Parser, add_json, print_json, whole
from polyfield.errors import DataError, InputError, RunError

if TYPE_CHECKING:
    from polyfield.datasets.pictures import Picture
    from polyfield.fields.model import Model

__all__ = ["configure", "run"]

_PICTURE_WIDTH = 400  # pixels of the picture of a run, drawn in a second or two
_PICTURE_STEPS = (
    1024  # samples along the box's diagonal at most: a model may ask for 64 times as many
)


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument("what", metavar="SCENE|RUN|FILE", help="or 'builtin', the built-in scene")
    parser.add_argument(
        "--picture",
        type=Path,
        metavar="FILE.png",
        help="where to draw cameras and bounds (default: ./inspect-NAME.png)",
    )
    parser.add_argument("--format", metavar="F", help="read a scene as this format")
    parser.add_argument(
        "--downscale", type=whole(1, 64), default=1, metavar="K", help="as in training"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Describe it on stdout and draw it into a file."""
    if args.picture is not None and args.picture.suffix.lower() != ".png":
        raise InputError(f"--picture must end in .png, but is {args.picture}.")
    if _is_model(Path(args.what)):
        name, facts, picture = _model(Path(args.what))
    else:
        name, facts, picture = _scene(args.what, args.format, args.downscale)
    if picture is not None:
        facts["picture"] = str(args.picture or Path(f"inspect-{name}.png"))
        _save(picture, Path(facts["picture"]))
    if args.json:
        print_json(facts)
    else:
        print("\n".join(_lines(facts)))
    return 0


def _is_model(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).exists() for name in ("field.safetensors", "log.jsonl"))
    return path.suffix == ".safetensors"


def _scene(what: str, format: str | None, downscale: int) -> tuple[str, dict[str, Any], "Picture"]:
    from polyfield.datasets.inspect_picture import draw_scene, oddities
    from polyfield.datasets.load import load_scene

    scene = load_scene(None if what == "builtin" else what, format=format, downscale=downscale)
    cameras = scene.cameras
    lenses = sorted({lens.model for lens in cameras.lenses})
    facts: dict[str, Any] = {
        "scene": scene.name,
        "format": scene.format,
        "reason": scene.reason,
        "images": len(scene.names),
        "split": {name: len(views) for name, views in scene.split.items()},
        "holdout": scene.holdout,
        "sizes": sorted({f"{w}x{h}" for w, h in cameras.size.tolist()}),
        "lenses": lenses,
        "focal": _range(cameras.focal[:, 0].tolist()),
        "transparent": bool(scene.images.has_alpha),
        "box": scene.box.tolist(),
        "near": scene.near,
        "far": scene.far,
        "unbounded": scene.unbounded,
        "camera_distance": _range(
            (cameras.positions - scene.box.double().mean(0)).norm(dim=1).tolist()
        ),
        "points": 0 if scene.points is None else len(scene.points),
        "fingerprint": scene.fingerprint,
        "warnings": [*scene.warnings, *oddities(scene)],
    }
    return scene.name, facts, draw_scene(scene)


def _model(path: Path) -> tuple[str, dict[str, Any], "Picture | None"]:
    from polyfield.fields import model_file
    from polyfield.training.run_folder import RunFolder

    folder = RunFolder.open(path) if path.is_dir() else None
    if folder is not None and not folder.model_path.exists():
        raise InputError(f"{path} has no model yet: the run was stopped before its first save.")
    file = folder.model_path if folder is not None else path
    model = model_file.load(file)
    facts: dict[str, Any] = {
        "model": model.kind,
        "bytes": file.stat().st_size,
        "parameters": sum(p.numel() for p in model.module.parameters()),
        "background": list(model.background),
        "steps": model.info.get("steps"),
        "train_seconds": model.info.get("train_seconds"),
        "scene": model.info.get("scene"),
        "split": {name: len(views) for name, views in model.info.get("split", {}).items()},
        "protocol": model.info.get("protocol"),
        "config": model.config,
    }
    if folder is not None:
        metrics = folder.read_metrics()
        if metrics is None:
            metrics = {}
        if not isinstance(metrics, dict):
            raise DataError(
                f"{path / 'metrics.json'} must hold an object with named values, but holds "
                f"{metrics!r:.40}; evaluate the run again."
            )
        facts["metrics"] = {k: metrics[k] for k in ("split", "psnr", "ssim") if k in metrics}
    name = (path if path.is_dir() else path.parent).resolve().name
    return name, facts, _first_view(model)


def _first_view(model: "Model") -> "Picture | None":
    """What the model shows from where its first photograph was taken; None when it kept no cameras."""
    from polyfield.renderers.camera_path import FrameSize, camera_path
    from polyfield.renderers.registry import renderer_for
    from polyfield.training.capture import captured_cameras
    from polyfield.training.evaluation import draw_view

    if "world_from_camera" not in model.capture:
        return None
    size = FrameSize(width=_PICTURE_WIDTH)
    camera = camera_path("test", captured_cameras(model), test=[0], size=size).cameras
    wide, high = (int(v) for v in camera.size[0])
    seen = draw_view(renderer_for(_quick(model)), camera, 0, model.background)
    return seen.color.reshape(high, wide, 3)


def _quick(model: "Model") -> "Model":
    """Give the same model with no finer steps than a picture needs."""
    render = model.config.get("render", {})
    if render.get("steps", 0) <= _PICTURE_STEPS:
        return model
    coarser = {**render, "steps": _PICTURE_STEPS}
    return replace(model, config={**model.config, "render": coarser})


def _save(picture: "Picture", path: Path) -> None:
    from polyfield.datasets.pictures import save_png

    try:
        save_png(path, picture)
    except OSError as error:
        raise RunError(f"{path} could not be written: {error.strerror}.") from None


def _range(values: list[float]) -> list[float]:
    return [min(values), max(values)]


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    """Lay facts out for people: nested objects indented, sentences on their own lines."""
    lines = []
    for key, value in facts.items():
        name = f"{indent}{key.replace('_', ' ')}"
        if isinstance(value, dict):
            lines += [name, *_lines(value, indent + "  ")]
        elif key == "warnings":
            lines += [f"{indent}warning: {sentence}" for sentence in value]
        else:
            lines.append(f"{name:<18} {_short(value)}")
    return lines


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, list):
        return ", ".join(f"({_short(v)})" if isinstance(v, list) else _short(v) for v in value)
    return str(value)
