"""Signals while a run goes on: what is begun is finished, and the exit status says which signal it was."""

import os
import signal

import pytest

from polyfield.cli import main
from polyfield.cli.interrupt import StopOnSignal, Terminated, interruptible
from polyfield.fields import model_file
from polyfield.training import rendering

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_the_first_stops_and_the_second_interrupts(number, status):
    asked = []
    with StopOnSignal(lambda: asked.append(1)) as signals:
        signals.busy = True
        send(number)
        assert (asked, signals.status) == ([1], status)
        with pytest.raises(KeyboardInterrupt) as raised:
            send(number)
        assert isinstance(raised.value, Terminated) == (number == signal.SIGTERM)


def test_a_terminal_that_closes_stops_the_run_and_says_so_twice():
    asked = []
    with StopOnSignal(lambda: asked.append(1)) as signals:
        signals.busy = True
        send(signal.SIGHUP)
        send(signal.SIGHUP)  # the system's, after the shell's
        assert (asked, signals.status) == ([1], 129)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_every_signal_that_asks_to_end_is_an_exception(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as raised, interruptible():
        send(number)
    assert getattr(raised.value, "status", 130) == 128 + number
    assert signal.getsignal(number) is before


def test_nohup_is_heeded():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_video_that_is_terminated_leaves_nothing_behind(tmp_path, monkeypatch):
    """What half a video is removed: the signal is an exception while a command works."""
    words = ["train", "builtin", "--out", str(tmp_path / "run"), "--steps", "2"]
    assert main.run([*words, "--downscale", "8", "--set", "train.samples=2048"]) == 0
    rendered = []

    def draw(*args):
        rendered.append(sorted(path.suffix for path in videos.iterdir()))
        if len(rendered) == 3:
            send(signal.SIGTERM)
        return draw_view(*args)

    draw_view = rendering.draw_view
    monkeypatch.setattr(rendering, "draw_view", draw)
    videos = tmp_path / "videos"
    words = ["render", str(tmp_path / "run"), "--path", "orbit", "--width", "16"]
    assert main.run([*words, "--out", str(videos / "v.mp4")]) == 143
    assert rendered[-1] == [".mp4"]
    assert list(videos.iterdir()) == []


def test_nothing_interrupts_a_save():
    asked = []
    with StopOnSignal(lambda: asked.append(1), lambda: True) as signals:
        send(signal.SIGTERM)
        send(signal.SIGINT)
        send(signal.SIGINT)
        assert (asked, signals.status) == ([1], 143)


@pytest.mark.parametrize(("number", "status"), SIGNALS)
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
