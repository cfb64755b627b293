"""What the other tests say of kernels, once more: for older processors, and for torch alone.

An instruction set is chosen when the module is loaded, so each has a process of its own, which runs the tests of all
rooms: most of its time goes into starting.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from polyfield import native

TESTS = Path(__file__).resolve().parents[1]
OLD = ("base", "avx2")
SHADOW = "off"  # no kernels

# Of each file the tests that compare a kernel with its reference, or with a law, and where they run. The rest is about
# arguments, or closed forms that hold for the reference alone.
AGREEMENT = (
    "agree or law or gradient or skipping or entries or equals or distances or surfaces or visible"
)
PERCEPTRON = "agreement or activations or layouts or condition or nan or sigmoid"
PERCEPTRON_ON = (*OLD, "avx512", "avx512bf16", "amx")
CHOSEN = [
    ("renderers/test_composite.py", AGREEMENT, (*OLD, SHADOW)),
    ("renderers/test_march.py", AGREEMENT, (*OLD, SHADOW)),
    ("renderers/test_occupancy.py", AGREEMENT, (*OLD, SHADOW)),
    ("renderers/test_carve.py", AGREEMENT, (*OLD, SHADOW)),
    ("renderers/test_roulette.py", AGREEMENT, (*OLD, SHADOW)),
    ("renderers/test_trace.py", "law", OLD),
    ("renderers/test_trace.py", "does_not_depend", (SHADOW,)),  # the laws compare with just that
    ("training/test_adam.py", AGREEMENT, (*OLD, SHADOW)),
    ("training/test_photometric.py", AGREEMENT, (*OLD, SHADOW)),
    ("fields/test_modulate.py", AGREEMENT, (*OLD, SHADOW)),
    ("fields/test_replay.py", AGREEMENT, (*OLD, SHADOW)),
    ("fields/test_hash_grid.py", "agreement or outside or nan", (*OLD, "avx512")),
    ("fields/test_mlp.py", PERCEPTRON, PERCEPTRON_ON),
    ("fields/test_mlp_paths.py", PERCEPTRON, PERCEPTRON_ON),
    ("fields/test_mlp_composition.py", PERCEPTRON, PERCEPTRON_ON),
    (
        "datasets/test_mesh_distance.py",
        "reference and not real and not 5000 or box_in_closed_form or law or beyond",
        OLD,
    ),
    # The reference takes every face for every point.
    (
        "datasets/test_mesh_distance.py",
        "box_in_closed_form or one_triangle or finite",
        (SHADOW,),
    ),
]


@pytest.mark.parametrize("isa", [*PERCEPTRON_ON, SHADOW])
def test_agreement(isa: str) -> None:
    if isa != SHADOW:
        if not native.available():
            pytest.skip("the native module is not there")
        known = native.core().isa_supported().split(", ")
        if isa not in known:
            pytest.skip(f"this processor has {', '.join(known)} only")
    chosen = [(file, words) for file, words, where in CHOSEN if isa in where]
    words = " or ".join(f"{Path(file).name} and ({words})" for file, words in chosen)
    switch = {"POLYFIELD_NATIVE": "off"} if isa == SHADOW else {"POLYFIELD_ISA": isa}
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-k", words),
            *(str(TESTS / file) for file, _ in chosen),
        ],
        env=os.environ | switch | {"PYTHONSAFEPATH": "1"},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    for file, _ in chosen:  # words that no test of a file has any more would choose none of it
        assert re.search(rf"{re.escape(file)}::.* PASSED", run.stdout), file
    assert " passed" in run.stdout
    assert isa == SHADOW or "skipped" not in run.stdout
