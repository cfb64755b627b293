"""What all tests share: where the real data lie, and a count of the tests that used them.

POLYFIELD_DATA names the folder that holds scenes/, meshes/ and images/. Without it ../shared/data beside the repository
is taken; where that is missing, tests on real data are skipped and say so. A POLYFIELD_DATA that is set to a folder
that is not there is an error: somebody expected those tests to run.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]

# In CI the same examples come each time, so that a change is judged by what it changed; elsewhere they vary.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


def _data() -> tuple[Path, bool]:
    """The folder of real data, and whether it was asked for by name."""
    named = os.environ.get("POLYFIELD_DATA")
    return (Path(named), True) if named else (ROOT.parent / "shared" / "data", False)


def pytest_configure(config: pytest.Config) -> None:
    path, named = _data()
    if named and not (path / "scenes").is_dir():
        raise pytest.UsageError(
            f"POLYFIELD_DATA is {path}, but there is no folder {path / 'scenes'}."
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "data_dir" in getattr(item, "fixturenames", ()):
            item.add_marker("real_data")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # Counted from the reports: those of other processes come here too.
    reports = [r for end in ("passed", "failed") for r in terminalreporter.stats.get(end, [])]
    ran = {r.nodeid for r in reports if r.when == "call" and "real_data" in r.keywords}
    terminalreporter.write_line(f"real-data tests that ran: {len(ran)}")


@pytest.fixture(autouse=True)
def as_if_it_were_the_first() -> Iterator[None]:
    """Neither what a test draws without its own generator nor torch's number of threads hangs on those before."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    if torch:
        torch.manual_seed(0)
    yield
    if torch and torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The repository, whose sources some laws read."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data; tests that ask for it are marked real_data."""
    path, _ = _data()
    if not (path / "scenes").is_dir():
        pytest.skip(f"no real data: {path} is not there and POLYFIELD_DATA is not set")
    return path
