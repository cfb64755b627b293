"""Writing meshes: PLY, OBJ and GLB, with the colours of their vertices. Every file is written beside and renamed.

Coordinates are written as they are: no axes are turned, also not in GLB files, whose viewers take y for up.
"""

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.errors import InputError, ShapeError, nearest
from polyfield.files import replacing

__all__ = ["EXPORTS", "check_export", "write_mesh"]

EXPORTS = ("glb", "obj", "ply")

_FINE = 1e-6  # of the mesh's size: what single precision may move a vertex by
# What glTF calls the numbers of an accessor, and what a buffer is for.
_UNSIGNED_SHORT, _UNSIGNED_INT, _FLOAT = 5123, 5125, 5126
_VERTICES, _INDICES = 34962, 34963


def check_export(path: Path | str) -> Path:
    """Refuse a name that `write_mesh` cannot write to.

    Raises:
        InputError: It ends in no known format, is a folder, or is no name that a file can have.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in EXPORTS:
        raise InputError(
            f"A mesh is written to a file that ends in .ply, .obj or .glb, but this is {str(path)!r}."
            f"{nearest(kind, EXPORTS)}"
        )
    if "\0" in str(path):
        raise InputError(f"{str(path)!r} cannot be the name of a file: it holds a zero byte.")
    try:
        folder = path.is_dir()
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise InputError(f"The mesh {path} cannot be written: {error.strerror}.") from None
    if folder:
        raise InputError(f"{path} is a folder; name a file to write the mesh to.")
    return path


def write_mesh(
    path: Path | str,
    mesh: Mesh,
    colors: Float[Tensor, "V 3"] | None = None,
    normals: Float[Tensor, "V 3"] | None = None,
) -> None:
    """Write a mesh.

    Args:
        path: Ends in .ply, .obj or .glb. Folders on the way are made.
        mesh: What to write.
        colors: Of its vertices, sRGB in [0, 1]. GLB files keep them in linear light, and say that they are to be shown
            as they are, without lamps.
        normals: Unit normals of its vertices; only GLB files keep them.

    Raises:
        InputError: The name ends otherwise, or cannot be written to.
        ShapeError: Not one colour, or one normal, for each vertex.
    """
    path = check_export(path)
    for name, given in (("colors", colors), ("normals", normals)):
        if given is not None and given.shape != mesh.vertices.shape:
            raise ShapeError(
                f"write_mesh: {name} must be {list(mesh.vertices.shape)}, one for each vertex, but are "
                f"{list(given.shape)}."
            )
    rgb = None if colors is None else colors.detach().cpu().double().clamp(0, 1).numpy()
    kind = path.suffix.lower().removeprefix(".")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside, beside.open("wb") as file:
            if kind == "ply":
                _write_ply(file, mesh, rgb)
            elif kind == "obj":
                file.write(_obj(mesh, rgb).encode("ascii"))
            else:
                shading = None if normals is None else normals.detach().cpu().numpy()
                file.writelines(_glb(mesh, rgb, shading))
    except OSError as error:
        raise InputError(f"The mesh {path} cannot be written: {error.strerror}.") from None


def _write_ply(file: Any, mesh: Mesh, rgb: np.ndarray | None) -> None:
    """Write binary PLY; in double precision only where it takes that to tell the vertices apart."""
    vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy()
    real, name = ("<f4", "float") if _in_single(vertices) else ("<f8", "double")
    columns = [(axis, real) for axis in "xyz"]
    head = [f"property {name} {axis}" for axis in "xyz"]
    if rgb is not None:
        columns += [(color, "u1") for color in ("red", "green", "blue")]
        head += [f"property uchar {color}" for color in ("red", "green", "blue")]
    rows = np.empty(len(vertices), columns)
    for k, axis in enumerate("xyz"):
        rows[axis] = vertices[:, k]
    for k, color in enumerate(() if rgb is None else ("red", "green", "blue")):
        rows[color] = np.rint(rgb[:, k] * 255)  # type: ignore[index]
    corners = np.empty(len(faces), [("count", "u1"), ("of", "<i4", 3)])
    corners["count"], corners["of"] = 3, faces
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        "comment polyfield",
        f"element vertex {len(vertices)}",
        *head,
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    file.write(("\n".join(lines) + "\n").encode("ascii"))
    file.write(rows.tobytes())
    file.write(corners.tobytes())


def _in_single(vertices: np.ndarray) -> bool:
    """Whether single precision leaves all vertices where they are, as seen by somebody who looks at the whole."""
    with np.errstate(over="ignore"):  # beyond 3.4e38 it moves them to infinity
        moved = np.abs(vertices - vertices.astype(np.float32)).max()
    return bool(moved <= _FINE * np.ptp(vertices, axis=0).max())


def _obj(mesh: Mesh, rgb: np.ndarray | None) -> str:
    """Write text: as many digits as it takes to tell a millionth of the mesh's size."""
    vertices = mesh.vertices.numpy()
    digits = max(0, 7 - math.floor(math.log10(np.ptp(vertices, axis=0).max())))
    line, table = " ".join([f"%.{digits}f"] * 3), vertices
    if rgb is not None:
        line, table = line + " %.4f %.4f %.4f", np.concatenate([vertices, rgb], axis=1)
    corners = mesh.faces.numpy() + 1
    # One format for all rows at once: many times faster than a row at a time.
    return (
        "# polyfield\n"
        + (f"v {line}\n" * len(table)) % tuple(table.ravel().tolist())
        + ("f %d %d %d\n" * len(corners)) % tuple(corners.ravel().tolist())
    )


def _glb(mesh: Mesh, rgb: np.ndarray | None, normals: np.ndarray | None) -> list[bytes]:
    """Make a GLB file. Vertices are told from the middle of the box around them, where single precision is finest."""
    low, high = (corner.numpy() for corner in mesh.box)
    middle = (low + high) / 2
    with np.errstate(over="ignore"):
        places = (mesh.vertices.numpy() - middle).astype("<f4")
    if not np.isfinite(places).all():
        raise InputError(
            "This mesh is larger than the numbers of a .glb file tell (3.4e38); write a .ply file, or scale it down."
        )
    parts: list[tuple[str, np.ndarray, int, str]] = [("POSITION", places, _FLOAT, "VEC3")]
    if normals is not None:
        parts.append(("NORMAL", normals.astype("<f4"), _FLOAT, "VEC3"))
    if rgb is not None:
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        opaque = np.concatenate([linear, np.ones_like(linear[:, :1])], axis=1)
        # Two bytes: in linear light a single one cannot tell dark colours apart.
        parts.append(("COLOR_0", np.rint(opaque * 65535).astype("<u2"), _UNSIGNED_SHORT, "VEC4"))
    parts.append(("", mesh.faces.numpy().astype("<u4").ravel(), _UNSIGNED_INT, "SCALAR"))
    views, accessors, begin = list[dict[str, Any]](), list[dict[str, Any]](), 0
    for name, array, number, form in parts:
        target = _VERTICES if name else _INDICES
        views.append(
            {"buffer": 0, "byteOffset": begin, "byteLength": array.nbytes, "target": target}
        )
        accessors.append(
            {
                "bufferView": len(accessors),
                "componentType": number,
                "count": len(array),
                "type": form,
                "normalized": number == _UNSIGNED_SHORT,
            }
        )
        if name == "POSITION":
            accessors[-1] |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
        begin += array.nbytes
    attributes = {part[0]: k for k, part in enumerate(parts) if part[0]}
    material: dict[str, Any] = {
        "doubleSided": True,
        "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.8},
    }
    tree: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "polyfield"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "translation": middle.tolist()}],
        "meshes": [
            {
                "primitives": [
                    {"attributes": attributes, "indices": len(parts) - 1, "material": 0, "mode": 4}
                ]
            }
        ],
        "materials": [material],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": begin}],
    }
    if rgb is not None:  # light is in the colours already
        material["extensions"] = {"KHR_materials_unlit": {}}
        tree["extensionsUsed"] = ["KHR_materials_unlit"]
    text = json.dumps(tree, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 4)
    size = 12 + 8 + len(text) + 8 + begin
    if size >= 1 << 32:
        raise InputError(
            f"This mesh takes {size / 1e9:.1f} GB, but a .glb file holds 4.3 GB at most; write a .ply file, or mesh "
            "at a lower --resolution."
        )
    return [
        struct.pack("<4sII", b"glTF", 2, size),
        struct.pack("<I4s", len(text), b"JSON"),
        text,
        struct.pack("<I4s", begin, b"BIN\0"),
        *(array.tobytes() for _, array, _, _ in parts),
    ]
