"""Tensor files: round trip, and one sentence for whatever else is in a file of that name."""

import json
import os
import struct

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyfield.errors import DataError, InputError, PolyfieldError, RunError
from polyfield.fields import tensor_file

NOTE = {"kind": "field", "config": {"levels": 16}}
# One temporary folder serves all examples of a test; each example writes its file anew.
ONE_FOLDER = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def example() -> dict[str, torch.Tensor]:
    return {
        "table": torch.arange(12, dtype=torch.float32).reshape(4, 3),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "generator": torch.Generator().manual_seed(3).get_state(),
        "counts": torch.tensor([1, 2, 65535], dtype=torch.uint16),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "bits": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
    }


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "field.safetensors"
    tensor_file.write(path, example(), NOTE)
    return path


def raw(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(1,), span=(0, 4)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(span)}


def note(**changes) -> dict:
    return {"polyfield": json.dumps({"format": 1, "kind": "field", **changes})}


def test_round_trip_is_exact(file):
    tensors, read_note = tensor_file.read(file, "field")
    assert read_note == {**NOTE, "format": 1}
    assert tensors.keys() == example().keys()
    for name, tensor in example().items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_views_of_one_buffer_are_written_each(tmp_path):
    buffer = torch.arange(10.0)
    views = {"all": buffer, "head": buffer[:4], "turned": buffer.reshape(2, 5).t()}
    tensor_file.write(tmp_path / "v.safetensors", views, NOTE)
    tensors, _ = tensor_file.read(tmp_path / "v.safetensors")
    assert all(torch.equal(tensors[name], view) for name, view in views.items())


def test_the_library_reads_what_was_written(tmp_path):
    """safetensors itself, with every dtype, in shapes of nought to four axes, empty ones too."""
    generator = torch.Generator().manual_seed(0)
    written = {
        f"{dtype}.{shape}": torch.randint(0, 2, shape, generator=generator).to(dtype)
        for dtype in tensor_file._DTYPES.values()
        for shape in ((), (1,), (3, 5), (0, 4), (2, 1, 3, 2))
    }
    tensor_file.write(tmp_path / "a.safetensors", written, NOTE)
    read = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert read.keys() == written.keys()
    for name, tensor in written.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    with (tmp_path / "a.safetensors").open("rb") as file:
        assert int.from_bytes(file.read(8), "little") % 8 == 0  # so the widest are aligned


def test_tensors_outlive_their_file(file):
    tensors, _ = tensor_file.read(file)
    os.truncate(file, 0)
    assert torch.equal(tensors["table"], example()["table"])


def test_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        tensor_file.read(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        tensor_file.read(tmp_path)


def test_another_kind(file):
    with pytest.raises(DataError, match="holds a 'field', but a 'state' is needed"):
        tensor_file.read(file, "state")


def test_a_note_needs_a_kind(tmp_path):
    with pytest.raises(ValueError, match="kind"):
        tensor_file.write(tmp_path / "x.safetensors", {}, {"config": {}})


def test_a_nan_is_neither_written_nor_read(file):
    before = file.read_bytes()
    with pytest.raises(RunError, match="the tensor 'table' holds a NaN"):
        tensor_file.write(file, {"table": torch.tensor([torch.nan])}, NOTE)
    assert file.read_bytes() == before
    header = {"__metadata__": note(), "x": entry()}
    file.write_bytes(raw(header, struct.pack("<f", float("nan"))))
    with pytest.raises(DataError, match="the tensor 'x' holds a NaN"):
        tensor_file.read(file)


def test_an_infinity_may_mean_something(file):
    tensor_file.write(file, {"seen": torch.tensor([torch.inf, -1.0])}, NOTE)
    assert tensor_file.read(file)[0]["seen"].tolist() == [float("inf"), -1.0]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not a tensor file, or it is cut off"),
        (b"\x01\x00", "not a tensor file, or it is cut off"),
        (struct.pack("<Q", 2**63), "not a tensor file, or it is cut off"),
        (struct.pack("<Q", 2**25) + b" " * 100, "not a tensor file, or it is cut off"),
        (struct.pack("<Q", 4) + b"null", "header is not readable"),
        (struct.pack("<Q", 2) + b"\xff\xfe", "header is not readable"),
        (struct.pack("<Q", 200_000) + b"[" * 200_000, "header is not readable"),
        (struct.pack("<Q", 15) + b'{"a":{},"a":{}}', "header is not readable"),
        (raw({}), "not one of Polyfield's"),
        (raw({"__metadata__": {"format": "pt"}}), "not one of Polyfield's"),
        (raw({"__metadata__": {"polyfield": "{"}}), "note is not readable"),
        (raw({"__metadata__": {"polyfield": '{"format":1,"kind":NaN}'}}), "note is not readable"),
        (raw({"__metadata__": note(seconds=[]), "a": 1e999}), "header is not readable"),
        (raw({"__metadata__": {"polyfield": '{"a":1e999}'}}), "note is not readable"),
        (raw({"__metadata__": {"polyfield": '{"kind":"a"}'}}), "lacks the format"),
        (raw({"__metadata__": note(format=99)}), "has format 99"),
        (raw({"a": []}), "entry for the tensor 'a' is broken"),
        (raw({"a": {**entry(), "code": "import os"}}, b"0000"), "entry for the tensor 'a'"),
        (raw({"a": entry(dtype="OBJ")}, b"0000"), "unknown dtype 'OBJ'"),
        (raw({"a": entry(shape=(-1,))}, b"0000"), "entry for the tensor 'a' is broken"),
        (raw({"a": entry(shape=(2**62, 2**62))}, b"0000"), "not of the size"),
        (raw({"a": entry(shape=(1,) * 17)}, b"0000"), "entry for the tensor 'a' is broken"),
        (raw({"a": entry(), "b": entry()}, b"0000"), "overlap or leave a gap"),
        (raw({"a": entry(span=(4, 8))}, b"00000000"), "overlap or leave a gap"),
        (raw({"a": entry()}, b"000"), "must hold 4 bytes of tensors, but holds 3"),
        (raw({"a": entry()}, b"00000"), "must hold 4 bytes of tensors, but holds 5"),
    ],
)
def test_hostile_headers(tmp_path, content, sentence):
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        tensor_file.read(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cut_at_any_byte(file):
    whole = file.read_bytes()
    for length in range(len(whole)):
        if length > 600 and length % 97:  # every byte of the header's start, then samples
            continue
        file.write_bytes(whole[:length])
        with pytest.raises(DataError):
            tensor_file.read(file)


@ONE_FOLDER
@given(st.binary(max_size=300))
def test_random_bytes(tmp_path, content):
    path = tmp_path / "random.safetensors"
    path.write_bytes(content)
    with pytest.raises(PolyfieldError):
        tensor_file.read(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=6,
)


@ONE_FOLDER
@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "__metadata__"]),
        JSON
        | st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "U8", "BOOL"]) | JSON,
                "shape": st.lists(st.integers(0, 3), max_size=3) | JSON,
                "data_offsets": st.tuples(st.integers(0, 16), st.integers(0, 16)) | JSON,
            }
        ),
        max_size=3,
    ),
    st.binary(max_size=24),
)
def test_random_headers_never_get_past_the_door(tmp_path, header, data):
    path = tmp_path / "header.safetensors"
    path.write_bytes(raw(header, data))
    with pytest.raises(DataError):  # none has our note, so none may pass
        tensor_file.read(path)


@ONE_FOLDER
@given(position=st.integers(0, 10**6), value=st.integers(0, 255))
def test_one_changed_byte_is_refused_or_read(file, position, value):
    """A flip inside a tensor cannot be seen, anywhere else it must be a sentence; never a crash."""
    content = bytearray(file.read_bytes())
    content[position % len(content)] = value
    path = file.with_name("flipped.safetensors")
    path.write_bytes(content)
    try:
        tensors, _ = tensor_file.read(path)
    except DataError:
        return
    assert sum(t.nbytes for t in tensors.values()) == sum(t.nbytes for t in example().values())


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({}, "lacks the tensor 'weights'"),
        ({"weights": torch.zeros(2, 3), "wieghts": torch.zeros(1)}, "Did you mean 'weights'?"),
        ({"weights": torch.zeros(3, 2)}, r"must be float32 of shape \(2, 3\), but is float32 of"),
        ({"weights": torch.zeros(2, 3, dtype=torch.float64)}, "but is float64"),
    ],
)
def test_expect(tensors, sentence):
    with pytest.raises(DataError, match=sentence):
        tensor_file.expect("field.safetensors", tensors, {"weights": ((2, 3), torch.float32)})


def test_expect_takes_what_is_right():
    tensor_file.expect("f", {"w": torch.zeros(2)}, {"w": ([2], torch.float32)})
