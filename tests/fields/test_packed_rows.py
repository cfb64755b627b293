"""Packed tables: what comes back is what went in, to the last bit, and a damaged file is one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from polyfield.errors import DataError
from polyfield.fields import model_file, tensor_file
from polyfield.fields.model import build_model
from polyfield.fields.ops.bits import pack_bits, unpack_bits
from polyfield.fields.packed_rows import pack_rows, stored_values, unpack_rows
from polyfield.fields.presets import preset

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def table(rows: int, columns: int, share: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random numbers in about a share of the rows."""
    generator = Generator().manual_seed(rows)
    filled = torch.rand(rows, 1, generator=generator) < share
    return (torch.randn(rows, columns, generator=generator) * filled + 0.0).to(dtype)


def bits_of(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(INTEGERS[tensor.element_size()])


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_bits_come_back(count: int) -> None:
    flags = torch.rand(count, generator=Generator().manual_seed(count)) < 0.5
    packed = pack_bits(flags)
    assert packed.shape == (-(-count // 8),)
    assert torch.equal(unpack_bits(packed, count), flags)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("rows", [4096, 4099, 10007])
def test_tables_come_back_to_the_last_bit(rows: int, dtype: torch.dtype) -> None:
    wanted = table(rows, 4, 0.3, dtype)
    parts = pack_rows(wanted)
    assert parts is not None
    assert sum(part.nbytes for part in parts) < 0.4 * wanted.nbytes
    assert torch.equal(bits_of(unpack_rows(*parts, rows)), bits_of(wanted))
    assert stored_values(wanted) == parts[1].numel()


def test_only_rows_whose_every_bit_is_zero_are_left_out() -> None:
    wanted = torch.zeros(20000, 2)
    wanted[5, 1], wanted[6, 0], wanted[7, 1] = -0.0, float("nan"), 1e-45
    wanted[100:500] = 1.0
    parts = pack_rows(wanted)
    assert parts is not None
    assert unpack_bits(parts[0], 20000).nonzero()[:, 0].tolist() == [5, 6, 7, *range(100, 500)]
    assert torch.equal(bits_of(unpack_rows(*parts, 20000)), bits_of(wanted))


@pytest.mark.parametrize(
    "plain",
    [
        torch.zeros(100, 4),  # small
        table(20000, 4, 0.98),  # nearly full
        torch.zeros(20000, 64),  # it would unfold to 2,048 times its bytes
        torch.zeros(80000),
        torch.zeros(100, 100, 8),
        torch.zeros(20000, 4, dtype=torch.int32),
        torch.zeros(0, 4),
        torch.zeros(20000, 0),
    ],
)
def test_what_is_not_worth_it_stays(plain: Tensor, tmp_path: Path) -> None:
    assert pack_rows(plain) is None
    assert stored_values(plain) == plain.numel()
    path = tmp_path / "a.safetensors"
    tensor_file.write(path, {"a": plain}, {"kind": "x"})
    assert torch.equal(safetensors.torch.load_file(path)["a"], plain)
    assert tensor_file.read_note(path) == {"kind": "x", "format": 1}


def test_a_view_that_is_not_contiguous_is_packed_as_it_reads() -> None:
    wanted = table(20000, 4, 0.2).t().contiguous().t()
    parts = pack_rows(wanted)
    assert parts is not None
    assert torch.equal(unpack_rows(*parts, 20000), wanted)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "packed.safetensors"
    tensors = {"table": table(20000, 4, 0.2), "other": torch.arange(5)}
    tensor_file.write(path, tensors, {"kind": "field", "levels": 3})
    return path


def test_a_file_packs_and_unpacks_unseen(file: Path) -> None:
    assert file.stat().st_size < 0.25 * 20000 * 16
    tensors, note = tensor_file.read(file)
    assert note == {"kind": "field", "levels": 3, "format": 2} == tensor_file.read_note(file)
    assert tensors.keys() == {"table", "other"}
    assert torch.equal(tensors["table"], table(20000, 4, 0.2))
    before = file.read_bytes()
    tensor_file.write(file, tensors, note)
    assert file.read_bytes() == before


def test_a_table_whose_bits_would_take_the_name_of_another_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    wanted = {"a": table(20000, 4, 0.2), "a.kept": torch.ones(3)}
    tensor_file.write(path, wanted, {"kind": "x"})
    tensors, _ = tensor_file.read(path)
    assert all(torch.equal(tensors[name], wanted[name]) for name in wanted)


def contents(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What lies in the file: tensors as they are stored, and the note with "packed"."""
    with safetensors.safe_open(path, framework="pt") as opened:
        note = json.loads(opened.metadata()["polyfield"])
    return safetensors.torch.load_file(path), note


def forge(path: Path, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
    metadata = {"polyfield": json.dumps(note)}
    safetensors.torch.save_file(tensors, path, metadata=metadata)


@pytest.mark.parametrize(
    ("bits", "sentence"),
    [
        (torch.zeros(2499, dtype=torch.uint8), "20000 rows need 2500 bytes"),
        (torch.zeros(2500, dtype=torch.int8), "20000 rows need 2500 bytes"),
        (torch.zeros(1, 2500, dtype=torch.uint8), "20000 rows need 2500 bytes"),
        (torch.zeros(2500, dtype=torch.uint8), "its bits speak of 0 rows, but"),
        (torch.full((2500,), 255, dtype=torch.uint8), "its bits speak of 20000 rows, but"),
        (None, "lacks the packed table 'table' or its bits"),
    ],
)
def test_damaged_bits_are_one_sentence(file: Path, bits: Tensor | None, sentence: str) -> None:
    tensors, note = contents(file)
    del tensors["table.kept"]
    forge(file, tensors if bits is None else {**tensors, "table.kept": bits}, note)
    with pytest.raises(DataError, match=sentence) as caught:
        tensor_file.read(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("packed", [5, [], {"table": -1}, {"table": "x"}, {"table": 1.5}])
def test_a_damaged_note_is_one_sentence(file: Path, packed: Any) -> None:
    tensors, note = contents(file)
    forge(file, tensors, {**note, "packed": packed})
    with pytest.raises(DataError, match="must say of packed tables how many rows"):
        tensor_file.read(file)


def test_bits_behind_the_last_row_are_refused(file: Path) -> None:
    _, note = contents(file)
    rows = 19999  # the bit of the last row now lies behind the end
    bits = torch.zeros(2500, dtype=torch.uint8)
    bits[-1] = 128
    forge(
        file,
        {"table": torch.ones(1, 4), "table.kept": bits},
        {**note, "packed": {"table": rows}},
    )
    with pytest.raises(DataError, match="speak of 0 rows, but 1 are there"):
        tensor_file.read(file)


def test_a_small_file_cannot_ask_for_all_memory(file: Path) -> None:
    _, note = contents(file)
    bits, kept = torch.zeros(1 << 17, dtype=torch.uint8), torch.zeros(0, 1 << 30)
    bomb = {"table": kept, "table.kept": bits}
    forge(file, bomb, {**note, "packed": {"table": 1 << 20}})  # 2^52 bytes
    with pytest.raises(DataError, match="more than it may unfold to"):
        tensor_file.read(file)


@settings(max_examples=100, deadline=None)
@given(position=st.integers(0, 10**6), value=st.integers(0, 255))
def test_one_changed_byte_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    tensor_file.write(path, {"t": table(2100, 2, 0.1)}, {"kind": "x"})
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(content)
    try:
        tensors, _ = tensor_file.read(path)
    except DataError:
        return
    # Up to the last bit of its last byte there may be four rows more; a lost "packed" leaves the bytes of the bits.
    assert sum(t.numel() for t in tensors.values()) <= 4200 + 2 * 4 + 263


def test_a_model_with_an_empty_table_comes_back_from_a_small_file(tmp_path: Path) -> None:
    field = preset("hashgrid")["field"]
    field["encoder"] |= {"levels": 3, "log2_table": 12, "finest": 32.0}
    domain = {"kind": "box", "low": [0.0] * 3, "high": [1.0] * 3}
    model = build_model("radiance", {"field": field, "domain": domain})
    whole = tmp_path / "whole.safetensors"
    model_file.save(model, whole)
    with torch.no_grad():
        model.module.encoder.table[1000:] = 0.0
    path = tmp_path / "packed.safetensors"
    model_file.save(model, path)
    assert path.stat().st_size < 0.5 * whole.stat().st_size
    for name, value in model_file.load(path).module.state_dict().items():
        assert torch.equal(value, model.module.state_dict()[name])
