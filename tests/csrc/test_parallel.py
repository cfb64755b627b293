"""Threads: results do not depend on how many there are, and a forked child works alone instead of hanging."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch

from polyfield import native
from polyfield.fields.ops.spherical_harmonics import (
    spherical_harmonics,
    spherical_harmonics_reference,
)

pytestmark = pytest.mark.skipif(
    not native.available(), reason="the native module is switched off: no threads of ours"
)
GRAIN = 512  # of the kernel used here as a probe


@pytest.fixture
def threads() -> object:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def directions(count: int) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("count", [0, 1, GRAIN - 1, GRAIN, GRAIN + 1, 3 * GRAIN, 10 * GRAIN + 7])
@pytest.mark.parametrize("width", [1, 2, 3, 7])
def test_every_index_once(count: int, width: int, threads: object) -> None:
    """Each row is written, by whatever number of threads, more of them than blocks of work included."""
    threads(width)  # type: ignore[operator]
    d = directions(count)
    out = torch.full((count + 2, 4), 99.0)  # a row of guard on both sides
    native.core().spherical_harmonics_forward(d.data_ptr(), out.data_ptr() + 16, count, 2)
    assert (out[0] == 99).all()
    assert (out[-1] == 99).all()
    torch.testing.assert_close(out[1:-1], spherical_harmonics_reference(d, 2))


def test_one_pool_with_torch(threads: object) -> None:
    core = native.core()
    if not core.openmp:
        pytest.skip("built without OpenMP: its threads are its own")
    threads(3)  # type: ignore[operator]
    assert core.thread_count() == 3
    core.set_thread_count(2)
    assert torch.get_num_threads() == 2


def test_same_bits_again_and_for_any_number_of_threads(threads: object) -> None:
    d = directions(20_001)
    results = []
    for count in (1, 2, 3, 2):
        threads(count)  # type: ignore[operator]
        results.append(spherical_harmonics(d, 6))
    assert all(torch.equal(results[0], other) for other in results[1:])


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_forked_child_works_alone() -> None:
    """An OpenMP region in a forked child hangs when the parent has used OpenMP: ours must not start one."""
    out = run(
        """
        import os, signal
        import torch
        from polyfield import native
        d, out = torch.randn(50_000, 3), torch.empty(50_000, 16)
        core = native.core()
        core.spherical_harmonics_forward(d.data_ptr(), out.data_ptr(), 50_000, 4)
        again = torch.empty(50_000, 16).share_memory_()
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # a hang must end
            core.spherical_harmonics_forward(d.data_ptr(), again.data_ptr(), 50_000, 4)
            os._exit(10 + core.thread_count())
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), core.thread_count(), torch.equal(out, again))
        """
    )
    assert out.split() == ["11", "2", "True"]


def test_called_from_many_python_threads() -> None:
    out = run(
        """
        import threading
        import torch
        from polyfield.fields.ops.spherical_harmonics import spherical_harmonics
        d = torch.randn(30_000, 3)
        wanted = spherical_harmonics(d, 4)
        same = []
        def work():
            for _ in range(5):
                same.append(torch.equal(spherical_harmonics(d, 4), wanted))
        threads = [threading.Thread(target=work) for _ in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        print(len(same), all(same))
        """
    )
    assert out.split() == ["20", "True"]
