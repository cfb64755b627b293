"""The run folder: what a run leaves on the disk, and how it survives a kill at any moment.

    config.json         what was asked for, fully spelled out
    state.safetensors   all that resume needs, self-contained
    field.safetensors   the model, all that every other command needs
    log.jsonl           step, seconds, loss, samples, rays
    metrics.json        the evaluation
    renders/            pictures and videos
    lock                held by the process that writes

Every file is written beside its place, synced and renamed, the state before the model: at any moment there is a whole
state, and the model is never newer than it. All names are relative, so the folder can be moved.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from polyfield.errors import DataError, InputError, RunError
from polyfield.fields import tensor_file
from polyfield.files import is_half, read_json, write_json
from polyfield.training.lock import FolderLock
from polyfield.training.log import Log, read_log
from polyfield.training.saved_run import is_of_a_run

__all__ = ["RunFolder"]

CONFIG = "config.json"
STATE = "state.safetensors"
MODEL = "field.safetensors"
LOG = "log.jsonl"
METRICS = "metrics.json"
RENDERS = "renders"


class RunFolder:
    """A run folder, open for writing (`create`) or only for looking (`open`).

    Attributes:
        path: The folder.

    Example:
        >>> import tempfile, torch
        >>> with RunFolder.create(Path(tempfile.mkdtemp()) / "run") as run:
        ...     run.log(step=1, seconds=0.1, loss=0.5, samples=1024, rays=64)
        ...     run.save_state({"step": 1, "weights": torch.zeros(3)})
        >>> RunFolder.open(run.path).load_state()
        {'step': 1, 'weights': tensor([0., 0., 0.])}
    """

    def __init__(self, path: Path, lock: FolderLock | None) -> None:
        self.path = path
        self._lock = lock
        self._log = Log(path / LOG)

    @classmethod
    def create(
        cls, path: Path | str, *, overwrite: bool = False, resume: bool = False
    ) -> "RunFolder":
        """Make the folder, or take one over, and lock it.

        Args:
            path: Folder; its parents are made too.
            overwrite: Take a folder with an older run in it, known by its config.json, and delete that run's files (no
                others). Call this only when all other input has been checked, so that a typing error costs nobody a
                run.
            resume: Go on with the run that is in it.

        Raises:
            InputError: It is not empty and neither was asked for, cannot be written to, is no folder, holds no run to
                resume or, not being empty, to overwrite, both were asked for, or another process writes to it.
        """
        path = Path(path)
        cls.check(path, overwrite=overwrite, resume=resume)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{path} cannot be made: {error.strerror}.") from None
        run = cls(path, FolderLock(path))
        try:
            cls.check(path, overwrite=overwrite, resume=resume)  # another run may have come first
            with _told(path):
                run._sweep()
                if overwrite:
                    run._clear()
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """Look at a run, also while another process writes it.

        Raises:
            InputError: There is no such folder, or no run in it.
        """
        path = Path(path)
        if not path.is_dir():
            raise InputError(f"There is no run folder {path}.")
        if not any((path / name).exists() for name in (CONFIG, MODEL, STATE)):
            raise InputError(f"{path} is not a run folder: it has no {CONFIG} and no {MODEL}.")
        return cls(path, None)

    @staticmethod
    def check(path: Path | str, *, overwrite: bool = False, resume: bool = False) -> None:
        """Refuse a folder that `create` would refuse, touching nothing. Errors as there."""
        path = Path(path)
        if overwrite and resume:
            raise InputError("--resume and --overwrite exclude each other: go on, or start anew?")
        try:
            path.lstat()
            present = path.exists()
        except (FileNotFoundError, NotADirectoryError):
            present = False
        except (OSError, ValueError) as error:  # a name too long, or with a zero byte
            raise InputError(f"--out cannot be used as a folder: {error}.") from None
        if present and not path.is_dir():
            raise InputError(f"{path} is a file, but a run needs a folder.")
        if resume and not (path / CONFIG).exists():
            raise InputError(
                f"{path} holds no run to resume: it has no {CONFIG}. Leave --resume away to start."
            )
        if resume or not present:
            return
        try:
            names = {entry.name for entry in path.iterdir() if not _is_half(entry.name)}
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}.") from None
        if not names - {FolderLock.NAME}:
            return
        if not overwrite:
            raise InputError(
                f"{path} is not empty. Go on with --resume, replace it with --overwrite, "
                "or choose another --out."
            )
        if not _holds_run(path):
            raise InputError(
                f"{path} is not empty, but holds no run that --overwrite could replace: it has no {CONFIG} of one. "
                "Choose another --out, or empty it yourself."
            )

    # --- writing

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Save what resume needs.

        Args:
            state: Flat: name -> tensor, or name -> JSON-able value. It must have an integer "step".

        Raises:
            RunError: The disk is full, or a tensor holds a NaN; the state before stays.
        """
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        values = {name: value for name, value in state.items() if name not in tensors}
        if not isinstance(values.get("step"), int):
            raise ValueError("a state needs its step, an integer")
        with self._writing():
            self._log.sync()  # the log on the disk is never behind the state
            tensor_file.write(self.path / STATE, tensors, {"kind": "state", "values": values})

    def save_model(self, write: Callable[[Path], None]) -> None:
        """Save the model, after the state that it belongs to.

        Args:
            write: Writes the model to the path that it is given, whole or not at all.

        Raises:
            RunError: The disk is full; the model before stays.
        """
        with self._writing():
            write(self.path / MODEL)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.json. RunError when the disk is full."""
        with self._writing():
            write_json(self.path / CONFIG, config)

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json, also into a folder that is only looked at. RunError when the disk is full."""
        with _told(self.path):
            write_json(self.path / METRICS, metrics)

    def log(self, *, step: int, seconds: float, loss: float, samples: int, rays: int) -> None:
        """Append one entry to the log: totals since the start for `seconds`, values of this step for the others."""
        entry = {"step": step, "seconds": seconds, "loss": loss, "samples": samples, "rays": rays}
        with self._writing():
            self._log.append(entry)

    # --- reading

    def load_state(self) -> dict[str, Any] | None:
        """Read the state, or None where the run was killed before its first one.

        In a folder open for writing this also cuts the log to the state's step, for the run goes on from there.

        Raises:
            DataError: The state is broken.
        """
        file = self.path / STATE
        if not file.exists():
            self._cut(-1)
            return None
        tensors, note = tensor_file.read(file, "state")
        values = _values(file, note)
        self._cut(values["step"])
        return {**values, **tensors}

    def state_values(self) -> dict[str, Any]:
        """Those entries of the state that are no tensors, read without these; empty where there is no state.

        Raises:
            DataError: The state is broken.
        """
        file = self.path / STATE
        return _values(file, tensor_file.read_note(file, "state")) if file.exists() else {}

    def read_config(self) -> Any:
        """What config.json holds. InputError or DataError when it cannot be read."""
        return read_json(self.path / CONFIG)

    def read_metrics(self) -> Any | None:
        """What metrics.json holds, None when the run was not evaluated."""
        file = self.path / METRICS
        return read_json(file) if file.exists() else None

    def read_log(self) -> list[dict[str, Any]]:
        """Entries of the log so far."""
        return read_log(self.path / LOG)

    @property
    def model_path(self) -> Path:
        """Where the model lies, whether or not it is there yet."""
        return self.path / MODEL

    def renders(self) -> Path:
        """The folder for pictures, made if need be."""
        folder = self.path / RENDERS
        with _told(self.path):
            folder.mkdir(exist_ok=True)
        return folder

    def close(self) -> None:
        """Close the log and let the lock go."""
        self._log.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- inside

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self._lock is None:
            raise RuntimeError(f"{self.path} was opened only for looking, or is closed")
        with _told(self.path):
            yield

    def _cut(self, step: int) -> None:
        if self._lock is not None:
            self._log.cut(step)

    def _sweep(self) -> None:
        """Remove what kills left beside their targets. Nobody else writes: the lock is ours."""
        for entry in list(self.path.iterdir()):
            if _is_half(entry.name):
                entry.unlink()

    def _clear(self) -> None:
        # The config goes last, for a run is known by it, and the state before it: a kill in between leaves an older run
        # that resumes or one that is plainly over, never a new config with an old state.
        shutil.rmtree(self.path / RENDERS, ignore_errors=True)
        for name in (METRICS, MODEL, LOG, STATE, CONFIG):
            (self.path / name).unlink(missing_ok=True)


def _holds_run(path: Path) -> bool:
    """Whether what lies there under our names is ours."""
    try:
        return is_of_a_run(read_json(path / CONFIG))
    except (InputError, DataError):
        return False


def _values(file: Path, note: Mapping[str, Any]) -> dict[str, Any]:
    """What a state holds beside its tensors."""
    values = note.get("values")
    if not isinstance(values, dict) or not isinstance(values.get("step"), int):
        raise DataError(f"{file} has no step.")
    return values


def _is_half(name: str) -> bool:
    """Whether a kill may have left this file when it was on its way to become one of ours."""
    return any(is_half(name, ours) for ours in (CONFIG, STATE, MODEL, LOG, METRICS))


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn the system's errors while writing into a sentence."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path} could not be written: {error.strerror}. What was saved before is intact."
        ) from None
