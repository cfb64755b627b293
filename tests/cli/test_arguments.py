"""Kinds of values on the command line."""

import argparse
import json
from pathlib import Path

import pytest

from polyfield.cli.arguments import choice, duration, print_json, whole


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("5m", 300), ("1h", 3600), ("90", 90), ("1.5m", 90), ("0.5s", 0.5), (" 2s ", 2)],
)
def test_durations(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["0", "0s", "-5", "", "s", "5d", "1e3s", "nan", "inf", "5 m", "9" * 12, "1m30s"]
)
def test_what_is_no_duration(text):
    with pytest.raises(argparse.ArgumentTypeError, match="a time above 0 is needed, as 60s"):
        duration(text)


@pytest.mark.parametrize("text", ["0", "9", "1.5", "", "x", "1e0", "-1"])
def test_whole_numbers_have_bounds(text):
    assert whole(1, 8)("8") == 8
    with pytest.raises(argparse.ArgumentTypeError, match="a whole number from 1 to 8 is needed"):
        whole(1, 8)(text)


def test_choice():
    assert choice("a", "b")("b") == "b"
    with pytest.raises(argparse.ArgumentTypeError, match="one of a, b is needed, not 'c'"):
        choice("a", "b")("c")


def test_json_is_one_line_with_paths_as_strings(capsys):
    print_json({"out": Path("a") / "b", "psnr": None})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"out": "a/b", "psnr": None}
    with pytest.raises(TypeError):
        print_json({"out": object()})


def test_json_has_null_for_what_is_no_number(capsys):
    print_json({"psnr": float("nan"), "views": [{"psnr": float("inf")}, (1.5, -float("inf"))]})
    printed = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert printed == {"psnr": None, "views": [{"psnr": None}, [1.5, None]]}
