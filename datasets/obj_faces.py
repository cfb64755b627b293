"""How the faces of an OBJ name vertices: by numbers from 1 on, or by negative ones, back from where the face stands.

-1 is the last vertex before the face. The parser takes it for the last one of the whole file, so such faces are given
the other kind of number before it sees them.
"""

import mmap
import re
from pathlib import Path

from polyfield.errors import DataError

__all__ = ["with_absolute_faces"]

# A corner that begins with a minus or a zero; a line that goes on in the next one, where there may be such a corner.
_ODD = re.compile(rb"(?m)^f(?:[ \t]++[^-0 \t\n][^ \t\n]*+)*+[ \t]++[-0]")
_GOES_ON = re.compile(rb"\\\r?\n")


def with_absolute_faces(path: Path) -> bytes | None:
    """Give the text of an OBJ with faces of nothing but vertices, all named from 1 on.

    Args:
        path: Of a file that is not empty.

    Returns:
        None where the faces of the file itself name vertices from 1 on: finding that out takes a scan, and no copy.

    Raises:
        DataError: A face names vertex 0, or one before the first.
        ValueError: A corner of a face is no number.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        if not (_ODD.search(mapped) or _GOES_ON.search(mapped)):
            return None
        text = mapped[:].replace(b"\r\n", b"\n").replace(b"\\\n", b"")
    vertices, lines = 0, []
    for line in text.strip().split(b"\n"):
        if line.startswith(b"v "):
            vertices += 1
        elif line.startswith((b"f ", b"f\t")):
            corners = (int(corner.partition(b"/")[0]) for corner in line.split()[1:])
            line = b"f " + b" ".join(b"%d" % _absolute(path, n, vertices) for n in corners)
        lines.append(line)
    return b"\n".join(lines)


def _absolute(path: Path, number: int, vertices: int) -> int:
    """Number from 1 on of a vertex, after so many of them."""
    if number == 0:
        raise DataError(
            f"The mesh {path} has a face of vertex 0, but OBJ counts from 1; is it damaged?"
        )
    if number < -vertices:
        raise DataError(
            f"The mesh {path} has a face of vertex {number}, counted back from it, but only {vertices:,} come before "
            "it; is it damaged?"
        )
    return number if number > 0 else vertices + 1 + number
