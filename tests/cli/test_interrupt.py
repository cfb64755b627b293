"""Signals while a run goes on: what is begun is finished, and the exit status says which signal it was."""

import os
import signal

import pytest

from polyfield.cli import main
from polyfield.cli.interrupt import StopOnSignal, Terminated
from polyfield.fields import model_file


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_stops_and_the_second_interrupts(number, status):
    asked = []
    with StopOnSignal(lambda: asked.append(1)) as signals:
        signals.busy = True
        send(number)
        assert (asked, signals.status) == ([1], status)
        with pytest.raises(KeyboardInterrupt) as raised:
            send(number)
        assert isinstance(raised.value, Terminated) == (number == signal.SIGTERM)


def test_nothing_interrupts_a_save():
    asked = []
    with StopOnSignal(lambda: asked.append(1), lambda: True) as signals:
        send(signal.SIGTERM)
        send(signal.SIGINT)
        send(signal.SIGINT)
        assert (asked, signals.status) == ([1], 143)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_during_the_last_save(tmp_path, monkeypatch, capsys, number, status):
    run, save = tmp_path / "run", model_file.save

    def interrupted(model, path):
        send(number)
        send(number)
        save(model, path)

    monkeypatch.setattr(model_file, "save", interrupted)
    words = ["train", "builtin", "--out", str(run), "--steps", "3", "--downscale", "8"]
    assert main.run([*words, "--set", "train.samples=2048"]) == status
    assert "Interrupted; saved at step 3. Go on with:" in capsys.readouterr().err
    assert model_file.load(run).info["steps"] == 3
    monkeypatch.setattr(model_file, "save", save)
    assert main.run(["train", "--resume", "--out", str(run)]) == 0
    assert (run / "metrics.json").exists()
