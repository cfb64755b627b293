"""Point clouds: positions and colours from PLY files, and back.

PLY (Stanford polygon format, 1.0): a text header that lists elements and their properties, then the elements in text
or binary of either byte order.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

from polyfield.errors import DataError, InputError
from polyfield.files import replacing

__all__ = ["read_points", "write_points"]

_KINDS = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_LONGEST_HEADER = 1 << 16


@dataclass(frozen=True)
class _Header:
    order: str
    count: int
    properties: tuple[tuple[str, str], ...]  # name and numpy kind
    body: int  # where the elements begin


def read_points(path: Path) -> tuple[Float64[Tensor, "P 3"], UInt8[Tensor, "P 3"] | None]:
    """Read the vertices of a PLY file.

    Returns:
        Positions (x, y, z), and colours (red, green, blue) where the file has them as bytes.

    Raises:
        InputError: The file cannot be read.
        DataError: It is no PLY file, is cut off, or its positions are not finite.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    header = _header(data, path)
    names = [name for name, _ in header.properties]
    if not {"x", "y", "z"} <= set(names):
        raise DataError(f"{path} has vertices without x, y and z.")
    rows = _text_rows(data, header, path) if not header.order else _rows(data, header, path)
    positions = np.stack([rows[axis].astype(np.float64) for axis in "xyz"], -1)
    if not np.isfinite(positions).all():
        raise DataError(f"{path} has a vertex that is not finite.")
    kinds = dict(header.properties)
    colored = all(kinds.get(name) == "u1" for name in ("red", "green", "blue"))
    colors = np.stack([rows[name] for name in ("red", "green", "blue")], -1) if colored else None
    return (
        torch.from_numpy(positions),
        None if colors is None else torch.from_numpy(colors.astype(np.uint8)),
    )


def write_points(
    path: Path, points: Float64[Tensor, "P 3"], colors: UInt8[Tensor, "P 3"] | None = None
) -> None:
    """Write points as a binary PLY file with double positions, and colours where given."""
    kinds = [(axis, "<f8") for axis in "xyz"]
    if colors is not None:
        kinds += [(name, "u1") for name in ("red", "green", "blue")]
    rows = np.empty(len(points), dtype=kinds)
    for i, axis in enumerate("xyz"):
        rows[axis] = points[:, i].numpy()
    for i, (name, _) in enumerate(kinds[3:]):
        assert colors is not None
        rows[name] = colors[:, i].numpy()
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    lines += [f"property {'double' if kind == '<f8' else 'uchar'} {name}" for name, kind in kinds]
    with replacing(path) as beside:
        beside.write_bytes("\n".join([*lines, "end_header\n"]).encode() + rows.tobytes())


def _header(data: bytes, path: Path) -> _Header:
    end = data.find(b"end_header", 0, _LONGEST_HEADER)
    line_end = data.find(b"\n", end)
    if not data.startswith(b"ply") or end < 0 or line_end < 0:
        raise DataError(f"{path} is not a PLY file, or its header is cut off.")
    order: str | None = None
    count: int | None = None
    properties: list[tuple[str, str]] = []
    element = ""
    for line in data[:end].decode("ascii", "replace").splitlines()[1:]:
        match line.split():
            case [] | ["comment" | "obj_info", *_]:
                continue
            case ["format", kind, "1.0"] if kind in _ORDERS:
                order = _ORDERS[kind]
            case ["element", name, number] if number.isascii() and number.isdigit():
                if not element and name != "vertex":
                    raise DataError(f"{path}: its first element must be vertex, but is {name!r}.")
                element = name
                if name == "vertex":
                    count = int(number[:18])
            case ["property", kind, name] if element == "vertex" and kind in _KINDS:
                properties.append((name, _KINDS[kind]))
            case ["property", *_] if element not in ("", "vertex"):
                continue  # of faces and the like, which come after the vertices
            case _:
                raise DataError(f"{path}: its header has a line that is not understood: {line!r}.")
    if order is None or count is None or not properties:
        raise DataError(f"{path}: its header lacks the format or the vertices.")
    if len({name for name, _ in properties}) != len(properties):
        raise DataError(f"{path}: its header names a property twice.")
    return _Header(order, count, tuple(properties), line_end + 1)


def _rows(data: bytes, header: _Header, path: Path) -> np.ndarray:
    row = np.dtype([(name, header.order + kind) for name, kind in header.properties])
    if len(data) - header.body < header.count * row.itemsize:
        have = (len(data) - header.body) // row.itemsize
        raise DataError(f"{path} is cut off: {have} of {header.count} vertices are there.")
    return np.frombuffer(data, row, header.count, header.body)


def _text_rows(data: bytes, header: _Header, path: Path) -> np.ndarray:
    lines = data[header.body :].decode("ascii", "replace").splitlines()[: header.count]
    if len(lines) < header.count:
        raise DataError(f"{path} is cut off: {len(lines)} of {header.count} vertices are there.")
    row = np.dtype([(name, kind) for name, kind in header.properties])
    try:
        values = np.array([line.split() for line in lines], dtype=np.float64)
        values = values.reshape(header.count, len(header.properties))
    except ValueError:
        raise DataError(f"{path}: a vertex is not {len(header.properties)} numbers.") from None
    rows = np.empty(header.count, row)
    with np.errstate(invalid="ignore", over="ignore"):
        for i, (name, _) in enumerate(header.properties):
            rows[name] = values[:, i]
    return rows
