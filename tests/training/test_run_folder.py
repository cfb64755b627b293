"""Run folders: who may write, and what is left after a kill, a full disk or a broken file."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from polyfield.errors import DataError, InputError, RunError
from polyfield.fields import tensor_file
from polyfield.training.run_folder import RunFolder

CONFIG = {
    **{"preset": "hashgrid", "fingerprint": "0f", "seed": 0, "steps": 3, "budget": None},
    **{"model": {"kind": "image"}, "train": {}, "version": "0.1.0", "scene": "builtin"},
}


def write_model(value: float):
    def write(path: Path) -> None:
        tensor_file.write(path, {"w": torch.tensor([value])}, {"kind": "field"})

    return write


def save(run: RunFolder, step: int) -> None:
    """One save as the training loop makes it: state first, then the model."""
    run.save_state({"step": step, "weights": torch.full((1000,), float(step)), "note": [1, "x"]})
    run.save_model(write_model(float(step)))


def log(run: RunFolder, step: int) -> None:
    run.log(step=step, seconds=step / 10, loss=1 / step, samples=step * 100, rays=step * 10)


@pytest.fixture
def folder(tmp_path):
    """A finished run of three steps."""
    with RunFolder.create(tmp_path / "a" / "run") as run:
        run.write_config(CONFIG)
        for step in (1, 2, 3):
            log(run, step)
        save(run, 3)
        run.write_metrics({"psnr": 30.0})
    return run.path


def test_what_was_saved_is_read_back(folder):
    run = RunFolder.open(folder)
    state = run.load_state()
    assert state is not None
    assert state["step"] == 3
    assert state["note"] == [1, "x"]
    assert torch.equal(state["weights"], torch.full((1000,), 3.0))
    assert run.read_config() == CONFIG
    assert run.read_metrics() == {"psnr": 30.0}
    assert [entry["step"] for entry in run.read_log()] == [1, 2, 3]
    assert set(run.read_log()[0]) == {"step", "seconds", "loss", "samples", "rays"}
    assert run.renders().is_dir()


def test_a_moved_folder_is_the_same(folder, tmp_path):
    state = RunFolder.open(folder.rename(tmp_path / "moved")).load_state()
    assert state is not None
    assert state["step"] == 3


def test_a_generator_goes_on_where_it_was(tmp_path):
    generator = torch.Generator().manual_seed(1)
    with RunFolder.create(tmp_path / "run") as run:
        run.save_state({"step": 0, "generator": generator.get_state()})
    expected = torch.rand(4, generator=generator)
    state = RunFolder.open(run.path).load_state()
    assert state is not None
    assert torch.equal(torch.rand(4, generator=_restored(state["generator"])), expected)


def _restored(state: torch.Tensor) -> torch.Generator:
    generator = torch.Generator()
    generator.set_state(state)
    return generator


# --- who may write


def test_a_folder_that_is_not_empty_is_refused(folder):
    before = sorted(os.listdir(folder))
    with pytest.raises(InputError, match=r"is not empty.*--resume.*--overwrite"):
        RunFolder.create(folder)
    assert sorted(os.listdir(folder)) == before


def test_a_folder_with_only_a_lock_is_empty(tmp_path):
    (tmp_path / "lock").touch()
    RunFolder.create(tmp_path).close()


def test_overwrite_deletes_the_old_run_and_nothing_else(folder):
    (folder / "thesis.txt").write_text("mine")
    RunFolder.open(folder).renders()
    with RunFolder.create(folder, overwrite=True):
        assert sorted(os.listdir(folder)) == ["lock", "thesis.txt"]


def everything(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "config",
    [
        None,
        "{",
        "[]",
        json.dumps({"model": "resnet", "version": "2"}),
        json.dumps({key: CONFIG[key] for key in CONFIG if key != "fingerprint"}),
    ],
)
def test_overwrite_takes_no_folder_that_holds_no_run(tmp_path, config):
    for name in ("renders/cat.png", "log.jsonl", "metrics.json", "state.safetensors", "lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    before = everything(tmp_path)
    for take in (RunFolder.check, RunFolder.create):
        with pytest.raises(InputError, match="holds no run that --overwrite could replace"):
            take(tmp_path, overwrite=True)
    assert everything(tmp_path) == before


def test_overwrite_takes_a_folder_that_is_empty_or_has_only_a_lock(tmp_path):
    for name in ("missing", "empty", "killed"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        if name == "killed":  # before its config was there
            (tmp_path / name).mkdir()
            (tmp_path / name / "lock").write_text("1\n")
            (tmp_path / name / ".config-ab12cd_9.json").write_text("{")
        with RunFolder.create(tmp_path / name, overwrite=True) as run:
            assert os.listdir(run.path) == ["lock"]


@pytest.mark.parametrize("stop", range(6))
def test_a_kill_while_a_run_is_deleted_leaves_one_that_can_be_deleted(folder, monkeypatch, stop):
    """Of five files and the folder of pictures so many are gone."""
    RunFolder.open(folder).renders()
    (folder / "thesis.txt").write_text("mine")
    gone = []

    def counted(remove):
        def removed(path: Path, **options: bool) -> None:
            if len(gone) == stop:
                raise KeyboardInterrupt
            gone.append(path)
            remove(path, **options)

        return removed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", counted(Path.unlink))
        patch.setattr(shutil, "rmtree", counted(shutil.rmtree))
        with pytest.raises(KeyboardInterrupt):
            RunFolder.create(folder, overwrite=True)
    with RunFolder.create(folder, overwrite=True):
        assert sorted(os.listdir(folder)) == ["lock", "thesis.txt"]


def test_resume_keeps_everything(folder):
    with RunFolder.create(folder, resume=True) as run:
        state = run.load_state()
        assert state is not None
        assert state["step"] == 3


@pytest.mark.parametrize("made", [False, True])
def test_nothing_to_resume(tmp_path, made):
    path = tmp_path / "run"
    if made:
        path.mkdir()
    with pytest.raises(InputError, match="holds no run to resume"):
        RunFolder.create(path, resume=True)
    assert path.exists() == made


def test_resume_and_overwrite_exclude_each_other(folder):
    with pytest.raises(InputError, match="exclude each other"):
        RunFolder.create(folder, resume=True, overwrite=True)
    assert (folder / "config.json").exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file, but a run needs a folder"):
        RunFolder.create(tmp_path / "file")
    with pytest.raises(InputError, match=r"cannot be made: Not a directory"):
        RunFolder.create(tmp_path / "file" / "below")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a /proc that nobody can write")
def test_a_place_that_cannot_be_written():
    with pytest.raises(InputError, match=r"cannot be (made|written to)"):
        RunFolder.create("/proc/run")


def test_open_says_what_is_missing(tmp_path):
    with pytest.raises(InputError, match="no run folder"):
        RunFolder.open(tmp_path / "none")
    with pytest.raises(InputError, match="is not a run folder"):
        RunFolder.open(tmp_path)


def test_a_second_writer_is_refused(folder):
    with RunFolder.create(folder, resume=True):
        with pytest.raises(InputError, match=rf"another run \(process {os.getpid()}\)"):
            RunFolder.create(folder, resume=True)
        with pytest.raises(InputError, match="another run"):
            RunFolder.create(folder, overwrite=True)
        assert (folder / "state.safetensors").exists()
        RunFolder.open(folder)  # looking is free
    RunFolder.create(folder, resume=True).close()  # and the lock falls at the end


def test_a_folder_opened_for_looking_is_not_written(folder):
    with pytest.raises(RuntimeError, match="only for looking"):
        save(RunFolder.open(folder), 4)


# --- kills


CHILD = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path

    target, moment = sys.argv[2], sys.argv[3]
    folder = Path(sys.argv[1])
    armed = False

    # Path.replace is the rename of every file: the process dies just before it or just after
    rename = Path.replace
    def replace(self, other):
        hit = armed and Path(other).name == target
        if hit and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = rename(self, other)
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    Path.replace = replace

    import torch
    from polyfield.fields import tensor_file
    from polyfield.training.run_folder import RunFolder

    def step(run, n):
        run.log(step=n, seconds=float(n), loss=1.0, samples=1, rays=1)
        run.save_state({"step": n, "weights": torch.full((1000,), float(n))})
        run.save_model(
            lambda path: tensor_file.write(path, {"w": torch.tensor([float(n)])}, {"kind": "field"})
        )

    run = RunFolder.create(folder)
    run.write_config({"scene": "builtin"})
    step(run, 1)
    armed = True
    step(run, 2)
    """
)


@pytest.mark.parametrize(
    ("target", "moment", "state_step", "model_step"),
    [
        ("state.safetensors", "before", 1, 1),
        ("state.safetensors", "after", 2, 1),
        ("field.safetensors", "before", 2, 1),
        ("field.safetensors", "after", 2, 2),
    ],
)
def test_a_kill_around_a_rename_leaves_a_run_that_resumes(
    tmp_path, target, moment, state_step, model_step
):
    folder = tmp_path / "run"
    child = subprocess.run([sys.executable, "-c", CHILD, folder, target, moment], check=False)
    assert child.returncode == -signal.SIGKILL
    halves = [name for name in os.listdir(folder) if name.startswith(".")]
    assert bool(halves) == (moment == "before")
    with RunFolder.create(folder, resume=True) as run:  # the lock fell with its process
        state = run.load_state()
        assert state is not None
        assert state["step"] == state_step
        assert torch.equal(state["weights"], torch.full((1000,), float(state_step)))
        assert [entry["step"] for entry in run.read_log()] == list(range(1, state_step + 1))
        tensors, _ = tensor_file.read(run.model_path)
        assert tensors["w"].item() == model_step
        assert not [name for name in os.listdir(folder) if name.startswith(".")]
        save(run, 3)


def test_killed_while_the_first_config_was_written(tmp_path):
    (tmp_path / "lock").touch()
    (tmp_path / ".config-abcdefgh.json").write_text("{")
    with RunFolder.create(tmp_path) as run:
        assert os.listdir(run.path) == ["lock"]


def test_killed_in_the_middle_of_a_state(tmp_path):
    """However much of it is written: what is left behind is ours, and the next run removes it."""
    code = (
        "import resource, sys, torch; from polyfield.training.run_folder import RunFolder;"
        "run = RunFolder.create(sys.argv[1]); run.write_config({});"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20));"  # a file beyond it kills
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL);"
        "run.save_state({'step': 1, 'w': torch.zeros(2**20)})"
    )
    child = subprocess.run([sys.executable, "-c", code, tmp_path / "run"], check=False)
    assert child.returncode == -signal.SIGXFSZ
    left = set(os.listdir(tmp_path / "run")) - {"lock", "config.json"}
    assert len(left) == 1
    with RunFolder.create(tmp_path / "run", resume=True) as run:
        assert set(os.listdir(run.path)) == {"lock", "config.json"}


def test_killed_before_the_first_state(tmp_path):
    with RunFolder.create(tmp_path / "run") as run:
        run.write_config({})
        log(run, 1)
    with RunFolder.create(run.path, resume=True) as again:
        assert again.load_state() is None
        assert again.read_log() == []


def test_resume_cuts_the_log_to_its_step(folder):
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4, "loss": 0.1}) + "\n")
        file.write('{"step": 5, "lo')
    with RunFolder.create(folder, resume=True) as run:
        run.load_state()
        log(run, 4)
        assert [entry["step"] for entry in run.read_log()] == [1, 2, 3, 4]
        assert run.read_log()[-1]["seconds"] == pytest.approx(0.4)


def test_looking_does_not_cut_the_log(folder):
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"step": 4}\n')
    RunFolder.open(folder).load_state()
    assert len(RunFolder.open(folder).read_log()) == 4


# --- a full disk


@pytest.mark.parametrize("what", ["state", "model", "config", "metrics"])
def test_a_full_disk_is_a_sentence_and_loses_nothing(folder, monkeypatch, what):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with RunFolder.create(folder, resume=True) as run:
        write = {
            "state": lambda: run.save_state({"step": 9, "weights": torch.zeros(3)}),
            "model": lambda: run.save_model(write_model(9.0)),
            "config": lambda: run.write_config({}),
            "metrics": lambda: run.write_metrics({}),
        }[what]
        with pytest.raises(RunError, match="could not be written: No space left on device"):
            write()
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    before.pop("lock"), after.pop("lock")
    assert after == before


def tiny_disk(path: Path) -> bool:
    """Mount 256 kB of memory at `path`, where the machine allows it."""
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.mount(b"tmpfs", str(path).encode(), b"tmpfs", 0, b"size=256k") == 0


def fill_the_log(run: RunFolder) -> None:
    for step in range(1, 10_000):
        log(run, step)


def test_a_disk_that_is_really_full(tmp_path):
    if not sys.platform.startswith("linux") or not tiny_disk(tmp_path):
        pytest.skip("mounting a small disk needs root on Linux")
    try:
        with RunFolder.create(tmp_path / "run") as run:
            run.write_config({})
            run.save_state({"step": 1, "weights": torch.ones(1000)})
            with pytest.raises(RunError, match="could not be written"):
                run.save_state({"step": 2, "weights": torch.ones(1_000_000)})
            (tmp_path / "filler").write_bytes(b"x" * 100_000)
            with pytest.raises(RunError, match=r"log\.jsonl could not be written"):
                fill_the_log(run)
            (tmp_path / "filler").unlink()
            logged = len(run.read_log())
            log(run, logged + 1)  # goes on where the half line was taken back
            assert len(run.read_log()) == logged + 1
            state = run.load_state()
            assert state is not None
            assert state["step"] == 1
    finally:
        ctypes.CDLL(None).umount(str(tmp_path).encode())


# --- broken files


def test_a_state_that_is_none(folder):
    (folder / "state.safetensors").write_bytes(b"not a state")
    with pytest.raises(DataError, match="not a tensor file"):
        RunFolder.open(folder).load_state()
    tensor_file.write(folder / "state.safetensors", {}, {"kind": "state"})
    with pytest.raises(DataError, match="has no step"):
        RunFolder.open(folder).load_state()
    write_model(1.0)(folder / "state.safetensors")
    with pytest.raises(DataError, match="holds a 'field', but a 'state' is needed"):
        RunFolder.open(folder).load_state()


def test_a_nan_is_not_saved(folder):
    with RunFolder.create(folder, resume=True) as run:
        with pytest.raises(RunError, match="'weights' holds a NaN"):
            run.save_state({"step": 4, "weights": torch.tensor([torch.nan])})
        state = run.load_state()
        assert state is not None
        assert state["step"] == 3


def test_a_state_needs_a_step(folder):
    with RunFolder.create(folder, resume=True) as run, pytest.raises(ValueError, match="step"):
        run.save_state({"weights": torch.zeros(1)})


@pytest.mark.parametrize("name", ["a" * 300, "a\0b"])
def test_names_that_no_folder_can_have_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="--out cannot be used as a folder"):
        RunFolder.check(tmp_path / name)
