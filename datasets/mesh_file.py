"""Mesh files: OBJ, OFF, PLY (text and binary), STL and GLB, read by trimesh into one mesh of triangles.

Polygons are cut into triangles, the parts of a scene are joined, colours and textures are left aside.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polyfield.datasets.mesh import Mesh, clean_mesh
from polyfield.errors import DataError, InputError, nearest

__all__ = ["FORMATS", "read_mesh"]

FORMATS = ("glb", "obj", "off", "ply", "stl")


def read_mesh(path: Path | str) -> Mesh:
    """Read a mesh; its `notes` say what was mended.

    Raises:
        InputError: There is no such file, it cannot be read, or its name ends in no known format.
        DataError: It is empty, cut off, damaged, or holds no triangle with area.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise InputError(f"{path} does not end like a mesh file.{nearest(kind, FORMATS)}")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise InputError(f"The mesh {path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise InputError(
            f"{str(path)!r} cannot be the name of a file: it holds a zero byte."
        ) from None
    if size == 0:
        raise DataError(f"The mesh {path} is empty (0 bytes).")
    vertices, faces = _parsed(path, kind)
    try:
        return clean_mesh(torch.from_numpy(vertices), torch.from_numpy(faces))
    except DataError as error:
        raise DataError(f"The mesh {path} cannot be used: {error}") from None


def _parsed(path: Path, kind: str) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    try:
        options: dict[str, Any] = {"skip_materials": True} if kind in ("obj", "glb") else {}
        scene = trimesh.load_scene(str(path), file_type=kind, process=False, **options)
        parts = [part for part in scene.dump() if isinstance(part, trimesh.Trimesh)]
        if not parts:
            raise DataError(f"The mesh {path} has no faces; is it a point cloud, or cut off?")
        vertices, faces = _joined([(part.vertices, part.faces) for part in parts])
        if kind == "off" and len(faces) < (declared := _off_faces(path)):
            raise DataError(
                f"The mesh {path} is cut off: {len(faces)} of {declared} faces are there."
            )
        return vertices, faces
    except DataError:
        raise
    except MemoryError:
        raise DataError(f"The mesh {path} needs more memory than there is.") from None
    except Exception as error:  # the parsers raise whatever a broken file makes them stumble over
        reason = " ".join(str(error).split())[:120].rstrip(".") or type(error).__name__
        raise DataError(
            f"The mesh {path} cannot be read ({reason}); is it cut off or damaged?"
        ) from None


def _off_faces(path: Path) -> int:
    """How many faces the head of an OFF file promises, which the parser does not ask."""
    with path.open("rb") as file:
        head = file.read(1 << 14).decode("ascii", "replace")
    words = re.sub(r"#.*", "", head).upper().replace("OFF", " OFF ").split()
    return int(words[words.index("OFF") + 2])


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum([0] + [len(vertices) for vertices, _ in parts])
    vertices = np.concatenate([vertices for vertices, _ in parts]).astype(np.float64, copy=False)
    faces = np.concatenate(
        [
            faces.astype(np.int64) + start
            for (_, faces), start in zip(parts, starts[:-1], strict=True)
        ]
    )
    return vertices.reshape(-1, 3), faces.reshape(-1, 3)
