"""The log is read up to the first line that is no entry, whatever that is."""

import json
from pathlib import Path

import pytest

from polyfield.training.log import Log, read_log


@pytest.mark.parametrize(
    "line",
    ["[" * 100_000, '{"step": 2, "a": ' + "[" * 400 + "]" * 400 + "}", "9" * 5000, "3", "{", "{}"],
)
def test_reading_stops_before_what_is_no_entry(tmp_path: Path, line: str) -> None:
    path = tmp_path / "log.jsonl"
    entries = [{"step": 1, "loss": 0.5}, {"step": 3, "loss": 0.25}]
    path.write_text("\n".join([json.dumps(entries[0]), line, json.dumps(entries[1]), ""]))
    assert read_log(path) == entries[:1]
    Log(path).cut(3)
    assert path.read_text() == json.dumps(entries[0]) + "\n"
