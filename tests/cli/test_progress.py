"""Progress on a terminal and elsewhere, and what Ctrl-C does."""

import io
import signal

import pytest

from polyfield.cli.interrupt import StopOnSignal
from polyfield.cli.progress import ProgressDisplay, line_of, time_of
from polyfield.training.progress import Progress

STATE = Progress(
    step=5, steps=10, seconds=1.0, seconds_left=61.0, loss=0.01, psnr=20.0, samples_per_second=2e6
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (60, "1:00"), (3600, "1:00:00")]
)
def test_times(seconds, text):
    assert time_of(seconds) == text


def test_line():
    assert line_of(STATE) == "step 5/10, loss 0.01000, PSNR 20.00 dB, 2.00 M samples/s, 1:01 left"
    assert line_of(Progress(step=3)) == "step 3"
    assert line_of(Progress(step=3, seconds_left=float("inf"))) == "step 3"


def test_lines_come_seldom_but_the_last_one_comes():
    stream = io.StringIO()
    with ProgressDisplay(stream, every=1000) as show:
        for step in range(1, 11):
            show(Progress(step=step, steps=10))
    assert stream.getvalue() == "step 1/10\nstep 10/10\n"


def test_sentences_always_come_and_counting_ones_seldom():
    stream = io.StringIO()
    with ProgressDisplay(stream, every=1000) as show:
        show(Progress(message="Reading."))
        show(Progress(message="A warning."))
        for step in range(1, 4):
            show(Progress(step=step, steps=3, message=f"frame {step} of 3"))
        show(Progress(step=3, message="Done."))
    assert stream.getvalue() == "Reading.\nA warning.\nframe 1 of 3\nframe 3 of 3\nDone.\n"


def test_a_terminal_gets_a_bar_with_the_same_words():
    stream = Terminal()
    with ProgressDisplay(stream) as show:
        show(Progress(message="[not markup] Reading."))
        show(STATE)
    shown = stream.getvalue()
    assert "[not markup] Reading." in shown
    assert "PSNR 20.00 dB" in shown
    assert "1:01 left" in shown


def test_ctrl_c_in_a_step_asks_for_a_stop_and_a_second_one_interrupts(capsys):
    asked = []
    with StopOnSignal(lambda: asked.append(True)) as signals:
        signals.busy = True
        signal.raise_signal(signal.SIGINT)
        assert asked == [True]
        assert "Stopping after this step" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert asked == [True]


def test_ctrl_c_elsewhere_interrupts_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with (
        pytest.raises(KeyboardInterrupt),
        StopOnSignal(lambda: pytest.fail("nothing to stop")),
    ):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
