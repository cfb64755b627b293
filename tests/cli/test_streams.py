"""Standard streams that fail: the work is done and its exit status told all the same."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from polyfield.cli.streams import settled
from polyfield.training.run_folder import RunFolder

COMMAND = f"{shlex.quote(sys.executable)} -m polyfield"
QUICK = "--out r --set train.samples=2048"


def shell(line: str, **settings) -> subprocess.CompletedProcess:
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, **settings)


@pytest.mark.parametrize("closed", [">&- 2>/dev/full", "<&- >&- 2>&-"])
def test_training_does_not_need_its_streams(small_scene, tmp_path, closed):
    done = shell(f"{COMMAND} train {small_scene} --steps 3 {QUICK} {closed}", cwd=tmp_path)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert RunFolder.open(tmp_path / "r").read_metrics()["steps"] == 3


def test_bad_input_is_bad_input_without_stderr(tmp_path):
    assert shell(f"{COMMAND} inspect nowhere 2>&-", cwd=tmp_path).returncode == 2


def test_ctrl_c_that_ends_the_reader_of_the_progress_too_saves(small_scene, tmp_path):
    read, write = os.pipe()
    command = f"exec {COMMAND} train {small_scene} --steps 100000 {QUICK}"
    run = subprocess.Popen(["sh", "-c", command], cwd=tmp_path, stderr=write)
    os.close(write)
    while b"step " not in os.read(read, 1000):
        pass
    os.close(read)
    time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 130
    state = RunFolder.open(tmp_path / "r").load_state()
    assert state is not None
    assert state["step"] > 0


def test_what_cannot_be_encoded_is_printed_with_backslashes(capfd):
    with settled():
        sys.stdout.write("images/\ud800.png\n")
    assert capfd.readouterr().out == "images/\\ud800.png\n"


def test_the_streams_are_themselves_again():
    before = sys.stdout, sys.stderr
    with settled():
        sys.stderr.write("told")
    assert (sys.stdout, sys.stderr) == before
