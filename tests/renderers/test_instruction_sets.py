"""The tests of marching, compositing, carving and Adam once more, for older processors and for torch alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from polyfield import native

HERE = Path(__file__).resolve().parent
FILES = [
    *(
        HERE / f"test_{name}.py"
        for name in ("composite", "march", "occupancy", "carve", "roulette", "trace")
    ),
    HERE.parent / "training" / "test_adam.py",
    HERE.parent / "training" / "test_photometric.py",
    HERE.parent / "fields" / "test_modulate.py",
    HERE.parent / "fields" / "test_replay.py",
]
# The rest is about arguments, or closed forms that hold for the reference alone.
TESTS = "agree or skipping or law or gradient or entries or equals or distances or surfaces or visible or agrees"


@pytest.mark.parametrize("isa", ["base", "avx2", "off"])
def test_agreement(isa: str) -> None:
    if isa != "off" and native.available():
        known = native.core().isa_supported().split(", ")
        if isa not in known:
            pytest.skip(f"this processor has {', '.join(known)} only")
    switch = {"POLYFIELD_NATIVE": "off"} if isa == "off" else {"POLYFIELD_ISA": isa}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", TESTS, *FILES],
        env=os.environ | switch,
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
