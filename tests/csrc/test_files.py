"""Files are replaced whole or not at all."""

import json
import stat
from pathlib import Path

import pytest

from polyfield.errors import DataError, InputError
from polyfield.files import read_json, replacing, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_json(target, {"x": 1})

    def lose_power() -> None:
        with replacing(target) as beside:
            beside.write_text("half")
            raise RuntimeError("power")

    with pytest.raises(RuntimeError, match="power"):
        lose_power()
    assert read_json(target) == {"x": 1}
    assert list(tmp_path.iterdir()) == [target]


def test_a_result_is_readable_as_any_new_file_is(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    (tmp_path / "plain").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.json", "plain")]
    assert modes[0] == modes[1]


def test_nan_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", '{"a": 1', "[" * 60])
def test_broken_json_is_one_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(DataError, match="is not valid JSON"):
        read_json(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "is nested too deep"),
        ("[" * 65 + "]" * 65, "is nested too deep"),
        ('{"a":' * 65 + "1" + "}" * 65, "is nested too deep"),
        ('{"a": ' + "9" * 5000 + "}", "has a number of thousands of digits"),
    ],
)
def test_json_beyond_all_use_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(DataError, match=f"a.json cannot be used: it {message}"):
        read_json(file)


def test_depth_and_digits_have_room(tmp_path: Path) -> None:
    value = [9 * 10**4299]
    for _ in range(63):
        value = [value]
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "a.json") == value


def test_a_zero_byte_in_a_name_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"'a\\x00b' cannot be read"):
        read_json("a\0b")
    with pytest.raises(InputError, match=r"'a\\x00b' cannot be the name of a file"):
        write_json("a\0b", 1)


def test_unreadable_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_json(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(DataError, match="is not a text file"):
        read_json(tmp_path / "binary")
