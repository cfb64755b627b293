"""Files of named tensors with a JSON note: safetensors, read with suspicion.

Layout: the safetensors format (8 bytes of header length, a JSON header, raw little-endian tensors). Everything that is
not a tensor is one JSON string in the header's metadata under the key "polyfield": an object with at least "format"
(version of this layout) and "kind" (what the file is). Nothing in such a file is ever executed.

Large tables of which many rows are empty are packed (`polyfield.fields.packed_rows`), which nobody sees who writes and
reads here: under the table's name lie the rows that hold something, under "NAME.kept" a bit for each row, and "packed"
in the note says how many rows there are. A file with such a table has format 2, another one format 1 as ever.

A file may come from anywhere, so `read` checks the whole header against the size of the file before it allocates
anything, and answers a broken file with one sentence.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polyfield.errors import DataError, InputError, RunError, nearest
from polyfield.fields.packed_rows import pack_rows, unpack_rows
from polyfield.files import replacing

__all__ = ["FORMAT", "expect", "read", "read_note", "write"]

FORMAT = 2
_PLAIN = 1  # the format of files without packed tables
_BITS = ".kept"  # behind the name of a packed table: the name of its bits

# Ours are a few kilobytes; a longer header is an attempt to exhaust memory, or no header at all.
_MAX_HEADER = 16 * 2**20
_MAX_AXES = 16
_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "U16": torch.uint16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


def write(path: Path | str, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
    """Write tensors and their note, whole or not at all.

    Args:
        path: File to write; it is replaced only once the new one is complete and on the disk.
        tensors: Name -> tensor of any shape and device, without NaN. An infinity may mean something ("not seen yet").
        note: JSON-able object with a "kind" and no "packed"; "format" is set.

    Raises:
        RunError: The disk is full, or a tensor holds a NaN. The file that was there is as it was.
        ValueError: The note has no "kind", has a "packed", or is not JSON.
    """
    path = Path(path)
    if not isinstance(note.get("kind"), str) or "packed" in note:
        raise ValueError("the note of a tensor file needs a 'kind' and has no 'packed'")
    plain = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    for name, tensor in plain.items():
        if _has_nan(tensor):
            raise RunError(f"{path.name} was not written: the tensor {name!r} holds a NaN.")
    stored, packed = _pack(plain)
    whole = {**note, "format": FORMAT, "packed": packed} if packed else {**note, "format": _PLAIN}
    text = json.dumps(whole, allow_nan=False)
    try:
        with replacing(path) as beside:
            _lay_out(beside, stored, text)
    except OSError as error:
        raise RunError(f"{path} could not be written: {error.strerror}.") from None


def _pack(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Pack the tables that are worth it: what to store instead, and the rows of each."""
    stored, packed = dict(tensors), dict[str, int]()
    for name, tensor in tensors.items():
        parts = None if name + _BITS in tensors else pack_rows(tensor)
        if parts is not None:
            stored[name + _BITS], stored[name] = parts
            packed[name] = len(tensor)
    return stored, packed


def _unpack(path: Path, tensors: dict[str, Tensor], packed: Any) -> None:
    """Undo `_pack`, as the note of a file tells it."""
    if not isinstance(packed, dict) or not _counts(list(packed.values())):
        raise DataError(f"{path}: its note must say of packed tables how many rows they have.")
    for name, rows in packed.items():
        if name not in tensors or name + _BITS not in tensors:
            raise DataError(f"{path} lacks the packed table {name[:80]!r} or its bits.")
        try:
            tensors[name] = unpack_rows(tensors.pop(name + _BITS), tensors[name], rows)
        except DataError as error:
            raise DataError(f"{path}: the packed table {name[:80]!r} is broken: {error}") from None
        except (MemoryError, RuntimeError):
            raise DataError(f"{path}: the table {name[:80]!r} does not fit into memory.") from None


def _lay_out(path: Path, tensors: Mapping[str, Tensor], note: str) -> None:
    """Write header and bytes here and now: the library writes to one more file, which a kill would leave behind."""
    names = {dtype: name for name, dtype in _DTYPES.items()}
    # The widest first, so that every tensor is aligned.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": {"polyfield": note}}
    end = 0
    for name in order:
        tensor, begin = tensors[name], end
        end += tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for name in order:
            flat = tensors[name].contiguous().view(-1)
            file.write(flat.view(torch.uint8).numpy().data)


def read(path: Path | str, kind: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and their note.

    Args:
        path: A file that `write` wrote, or something that claims to be one.
        kind: What it should be, as in its note; None takes any.

    Returns:
        tensors: In memory of their own (the file may be replaced or cut while they are in use).
        note: With "format" and "kind".

    Raises:
        InputError: The file is not there or cannot be opened.
        DataError: It is broken, hostile, of a newer format, of another kind, or holds a NaN.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.safetensors"
        >>> write(file, {"x": torch.arange(3)}, {"kind": "field"})
        >>> read(file)
        ({'x': tensor([0, 1, 2])}, {'kind': 'field', 'format': 1})
    """
    path = Path(path)
    note = _read_note(path, kind)
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                tensors[name] = file.get_tensor(name).clone()
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{path} is not a usable tensor file: {_told(error)}") from None
    _unpack(path, tensors, note.pop("packed", {}))
    for name, tensor in tensors.items():
        if _has_nan(tensor):
            raise DataError(f"{path}: the tensor {name!r} holds a NaN.")
    return tensors, note


def read_note(path: Path | str, kind: str | None = None) -> dict[str, Any]:
    """Read only the note, having checked the whole header. Errors as in `read`."""
    note = _read_note(Path(path), kind)
    note.pop("packed", None)
    return note


def _read_note(path: Path, kind: str | None) -> dict[str, Any]:
    """The note as it is written."""
    header = _read_header(path)
    metadata = header.get("__metadata__")
    text = metadata.get("polyfield") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise DataError(f"{path} is a safetensors file, but not one of Polyfield's.")
    note = _parse(path, text, "note")
    if not isinstance(note.get("format"), int) or not isinstance(note.get("kind"), str):
        raise DataError(f"{path}: its note lacks the format or the kind.")
    if not 1 <= note["format"] <= FORMAT:
        raise DataError(
            f"{path} has format {note['format']}, but this version reads up to {FORMAT}. Update Polyfield."
        )
    if kind is not None and note["kind"] != kind:
        raise DataError(f"{path} holds a {note['kind']!r}, but a {kind!r} is needed here.")
    return note


def expect(
    where: Path | str,
    tensors: Mapping[str, Tensor],
    wanted: Mapping[str, tuple[Sequence[int], torch.dtype]],
) -> None:
    """Check that exactly the wanted tensors came, each with its shape and dtype.

    Args:
        where: What to call the file in errors.
        tensors: As `read` gave them.
        wanted: Name -> (shape, dtype).

    Raises:
        DataError: One is missing, unknown, or of another shape or dtype.
    """
    for name in tensors:
        if name not in wanted:
            raise DataError(f"{where} has an unknown tensor {name!r}.{nearest(name, wanted)}")
    for name, (shape, dtype) in wanted.items():
        if name not in tensors:
            raise DataError(f"{where} lacks the tensor {name!r}.")
        tensor = tensors[name]
        if tuple(tensor.shape) != tuple(shape) or tensor.dtype != dtype:
            raise DataError(
                f"{where}: the tensor {name!r} must be {_kind(dtype)} of shape {tuple(shape)}, "
                f"but is {_kind(tensor.dtype)} of shape {tuple(tensor.shape)}."
            )


def _read_header(path: Path) -> dict[str, Any]:
    """Header as a dict, after checking that its tensors tile the rest of the file exactly."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            fits = len(start) == 8 and length <= min(_MAX_HEADER, size - 8)
            raw = file.read(length) if fits else b""
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    if not raw:
        raise DataError(f"{path} is not a tensor file, or it is cut off.")
    header = _parse(path, raw, "header")
    spans = []
    for name, entry in header.items():
        if name != "__metadata__":
            spans.append(_span(path, name, entry))
    end = 0
    for begin, stop in sorted(spans):
        if begin != end:
            raise DataError(f"{path}: its tensors overlap or leave a gap at byte {end}.")
        end = stop
    if end != size - 8 - length:
        raise DataError(
            f"{path} must hold {end} bytes of tensors, but holds {size - 8 - length}; is it cut off?"
        )
    return header


def _span(path: Path, name: str, entry: Any) -> tuple[int, int]:
    """First and last byte of a tensor, checked against its shape."""
    broken = DataError(f"{path}: the header's entry for the tensor {name[:80]!r} is broken.")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise broken
    dtype, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise DataError(f"{path}: the tensor {name[:80]!r} has the unknown dtype {dtype!r:.40}.")
    if not _counts(shape) or len(shape) > _MAX_AXES or not _counts(span) or len(span) != 2:
        raise broken
    if span[1] - span[0] != math.prod(shape) * _DTYPES[dtype].itemsize:
        raise DataError(f"{path}: the tensor {name[:80]!r} is not of the size that its shape says.")
    return span[0], span[1]


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 2**63 for v in value
    )


def _parse(path: Path, text: str | bytes, part: str) -> dict[str, Any]:
    """JSON object without repeated keys (of two equal names, readers differ in which they take)."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a key twice")
        return result

    try:
        data = json.loads(
            text, object_pairs_hook=unique, parse_constant=_no_constant, parse_float=_finite
        )
    except (ValueError, RecursionError):  # JSON and Unicode errors are ValueErrors
        data = None
    if not isinstance(data, dict):
        raise DataError(f"{path} is not a tensor file: its {part} is not readable.")
    return data


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is beyond what a number can hold")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _has_nan(tensor: Tensor) -> bool:
    return tensor.dtype.is_floating_point and bool(tensor.isnan().any())


def _kind(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _told(error: Exception) -> str:
    """First line of a library's message, as the end of a sentence."""
    line = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return f"{line[:200]}."
