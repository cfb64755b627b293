"""Mesh files: OBJ, OFF, PLY (text and binary), STL and GLB, read by trimesh into one mesh of triangles.

Polygons are cut into triangles, the parts of a scene are joined, colours and textures are left aside.
"""

import io
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from polyfield.datasets.mesh import Mesh, clean_mesh
from polyfield.datasets.obj_faces import with_absolute_faces
from polyfield.errors import DataError, InputError, nearest

__all__ = ["FORMATS", "load_parts", "opened", "read_mesh"]

FORMATS = ("glb", "obj", "off", "ply", "stl")


def read_mesh(path: Path | str) -> Mesh:
    """Read a mesh; its `notes` say what was mended.

    Raises:
        InputError: There is no such file, it cannot be read, or its name ends in no known format.
        DataError: It is empty, cut off, damaged, or holds no triangle with area.
    """
    path = Path(path)
    kind = opened(path)
    parts = load_parts(path, kind, materials=False)
    vertices, faces = _joined([(places, of) for places, of, _ in parts])
    try:
        return clean_mesh(torch.from_numpy(vertices), torch.from_numpy(faces))
    except DataError as error:
        raise DataError(f"The mesh {path} cannot be used: {error}") from None


def opened(path: Path) -> str:
    """Say which of the formats a file has, after looking whether it can be opened.

    Raises:
        InputError: There is no such file, it cannot be read, or its name ends in no known format.
        DataError: It is empty.
    """
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
    return kind


def load_parts(
    path: Path, kind: str, *, materials: bool
) -> list[tuple[np.ndarray, np.ndarray, Any]]:
    """Parse a file.

    Args:
        path: Of a file that can be opened.
        kind: Its format.
        materials: Whether to read what its materials name, too, such as textures.

    Returns:
        Of each part of the scene its vertices where the scene has it, its faces, and trimesh's own mesh of it, whose
        faces have the same corners in the same order, or where a mirror has turned them, in the opposite one.

    Raises:
        DataError: It is damaged, or has no faces.
    """
    import trimesh

    try:
        options: dict[str, Any] = (
            {"skip_materials": not materials} if kind in ("obj", "glb") else {}
        )
        text = with_absolute_faces(path) if kind == "obj" else None
        source = str(path) if text is None else io.BytesIO(text)
        scene = trimesh.load_scene(source, file_type=kind, process=False, **options)
        found = [_part(scene, node) for node in scene.graph.nodes_geometry]
        parts = [part for part in found if part is not None and len(part[1])]
        if not parts:
            raise DataError(f"The mesh {path} has no faces; is it a point cloud, or cut off?")
        _check_text(path, kind)
        return parts
    except DataError:
        raise
    except MemoryError:
        raise DataError(f"The mesh {path} needs more memory than there is.") from None
    except Exception as error:  # the parsers raise whatever a broken file makes them stumble over
        reason = " ".join(str(error).split())[:120].rstrip(".") or type(error).__name__
        raise DataError(
            f"The mesh {path} cannot be read ({reason}); is it cut off or damaged?"
        ) from None


def _check_text(path: Path, kind: str) -> None:
    """Refuse what the parsers let pass: text with fewer rows than its head promises."""
    if kind in ("off", "ply"):
        with path.open(encoding="latin-1") as file:
            promised = _off_rows(file) if kind == "off" else _ply_rows(file)
            present = sum(1 for line in file if line.strip()) if promised else 0
        if min(promised, default=0) < 0 or present < sum(promised):
            raise DataError(
                f"The mesh {path} is cut off or damaged: its head promises {sum(promised):,} rows of vertices and "
                f"faces, but {present:,} are there."
            )


def _off_rows(file: TextIO) -> list[int]:
    """Read the head of an OFF file: how many vertices and faces follow, a line each."""
    words = list[str]()
    while len(words) < 2:
        line = next(file).partition("#")[0].upper()
        words += line.replace("COFF", " ").replace("OFF", " ").split()
    return [int(word) for word in words[:2]]


def _ply_rows(file: TextIO) -> list[int]:
    """Read the head of a PLY file: how many elements of each kind follow, a line each; none of a binary file."""
    counts = list[int]()
    for line in file:
        words = line.split()
        if words[:1] == ["format"] and words[1:2] != ["ascii"]:
            return []
        if words[:1] == ["element"]:
            counts.append(int(words[2]))
        if words == ["end_header"]:
            break
    return counts


def _part(scene: Any, node: str) -> tuple[np.ndarray, np.ndarray, Any] | None:
    """A part of a scene, see `load_parts`; None for what is no mesh.

    Not by the parser's own way, which copies all that it knows of a part.
    """
    import trimesh

    place, name = scene.graph[node]
    part = scene.geometry[name]
    if not isinstance(part, trimesh.Trimesh):
        return None
    faces = part.faces[:, ::-1] if np.linalg.det(place[:3, :3]) < 0 else part.faces
    return trimesh.transform_points(part.vertices, place), faces, part


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    if len(parts) == 1:
        ((vertices, faces),) = parts
        return np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(faces, np.int64)
    starts = np.cumsum([0] + [len(vertices) for vertices, _ in parts])
    vertices = np.concatenate([vertices for vertices, _ in parts]).astype(np.float64, copy=False)
    faces = np.concatenate(
        [
            faces.astype(np.int64) + start
            for (_, faces), start in zip(parts, starts[:-1], strict=True)
        ]
    )
    return vertices.reshape(-1, 3), faces.reshape(-1, 3)
