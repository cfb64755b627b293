"""What `render` can draw along a path: runs of scenes and shapes, and mesh files."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from polyfield.config import from_json
from polyfield.datasets.cameras import Cameras
from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_file import FORMATS
from polyfield.datasets.painted_file import read_painted
from polyfield.errors import InputError, nearest
from polyfield.fields import model_file
from polyfield.fields.model import Model
from polyfield.fields.signal import Solid
from polyfield.renderers.camera_path import ring
from polyfield.renderers.mesh import MeshRenderer
from polyfield.renderers.registry import renderer_for
from polyfield.renderers.rendered import Renderer
from polyfield.training.capture import captured_cameras, captured_views

__all__ = ["Drawable", "drawable_mesh", "drawable_model", "is_mesh"]

_AXES = ("x", "y", "z")
_SHAPES = ("sdf", "udf", "occupancy")  # kinds of fields that no cameras were needed for
_WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Drawable:
    """Something to draw.

    Attributes:
        renderer: Draws it.
        cameras: That it was seen by, or some around it.
        test: Numbers of those that are held out.
        background: What shows where nothing is, sRGB in [0, 1].
        rays: Along each side of a pixel: a surface has sharp borders, which one ray in a pixel would leave jagged.
    """

    renderer: Renderer
    cameras: Cameras
    test: list[int]
    background: tuple[float, float, float]
    rays: int


def is_mesh(path: Path) -> bool:
    """Whether a path names a mesh file, by how it ends."""
    return path.suffix.lower().removeprefix(".") in FORMATS


def drawable_model(model: Model, up: str | None) -> Drawable:
    """Draw a run, by the cameras it was trained from; a shape, which has none, by some around it.

    Args:
        model: Of any kind that has a renderer.
        up: "x", "y" or "z", for a shape; None: z.

    Raises:
        InputError: `up` is something else, or the scene's cameras say it already.
    """
    if model.kind in _SHAPES:
        cameras = _around_solid(model, up)
        return Drawable(renderer_for(model), cameras, [], model.background, 2)
    if up is not None:
        raise InputError(
            "--up is for shapes and mesh files: the cameras of a scene say where up is."
        )
    test = captured_views(model, "test")
    return Drawable(renderer_for(model), captured_cameras(model), test, model.background, 1)


def drawable_mesh(path: Path, cameras: Path | str | None, up: str | None) -> Drawable:
    """Draw a mesh file, as it is painted.

    Args:
        path: The file.
        cameras: Run whose cameras to take, and with them its world, to which the mesh is moved. None: some around it.
        up: "x", "y" or "z", without cameras; None: y for .glb, which is what the format says, z for all others.

    Raises:
        InputError: A file cannot be read, or `up` is something else.
        DataError: A file is damaged.
    """
    mesh, paint = read_painted(path)
    if cameras is None:
        low, high = mesh.box
        seen = ring(low, high, _upward(up or ("y" if path.suffix.lower() == ".glb" else "z")))
        return Drawable(MeshRenderer(mesh, paint), seen, [], _WHITE, 2)
    if up is not None:
        raise InputError("--up and --cameras exclude each other: cameras say where up is.")
    model = model_file.load(cameras)
    if model.kind in _SHAPES:
        seen, test = _around_solid(model, None), list[int]()
    else:
        seen, test = captured_cameras(model), captured_views(model, "test")
    world_from_data = model.capture.get("world_from_data", torch.eye(4)).double()
    vertices = mesh.vertices @ world_from_data[:3, :3].T + world_from_data[:3, 3]
    moved = Mesh(vertices, mesh.faces)
    return Drawable(MeshRenderer(moved, paint), seen, test, model.background, 2)


def _around_solid(model: Model, up: str | None) -> Cameras:
    """Cameras around the cube of a shape, in the coordinates of its mesh."""
    solid = from_json(Solid, model.config["domain"], "domain")
    middle = torch.tensor(solid.center, dtype=torch.float64)
    # The shape fills a ball in the cube rather than its corners.
    half = 1.0 / solid.scale / 3**0.5
    return ring(middle - half, middle + half, _upward(up or "z"))


def _upward(up: str) -> Tensor:
    if up not in _AXES:
        raise InputError(f"--up must be x, y or z, but is {up!r}.{nearest(up, _AXES)}")
    axis = torch.zeros(3, dtype=torch.float64)
    axis[_AXES.index(up)] = 1.0
    return axis
