"""The examples in the docstrings run."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
ROOMS = [
    "cli",
    "csrc/polyfield",
    "datasets",
    "fields",
    "meshing",
    "renderers",
    "training",
    "viewer",
]


def modules() -> list[str]:
    names = []
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            if ">>> " in file.read_text(encoding="utf-8"):
                parts = file.relative_to(ROOT).with_suffix("").parts
                parts = parts[2:] if parts[0] == "csrc" else parts
                names.append(".".join(["polyfield", *(p for p in parts if p != "__init__")]))
    return names


@pytest.mark.parametrize("name", modules())
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = import_module(name)
    # An example may use torch where its module imports only names from it.
    result = doctest.testmod(module, extraglobs={"torch": torch}, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert result.attempted > 0
