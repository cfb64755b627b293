"""The house is kept: short files, documented modules, nothing heavy at import, nothing that executes data."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = [
    "cli",
    "csrc/polyfield",
    "datasets",
    "fields",
    "meshing",
    "renderers",
    "training",
    "viewer",
]
MODULES = sorted(
    file for room in ROOMS if (ROOT / room).is_dir() for file in (ROOT / room).rglob("*.py")
)
FOLDERS = [*ROOMS, "benchmarks", "csrc", "tests"]
# Lines. One idea a file, about 400; tables of cases may make a test a little longer.
LONGEST = {"tests": 500, "benchmarks": 500}
LONGEST_SOURCE = 430


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_file_is_too_long():
    kinds = ("*.py", "*.cpp", "*.h", "*.cu", "*.cuh")
    files = {f for folder in FOLDERS for kind in kinds for f in (ROOT / folder).rglob(kind)}
    assert len(files) > 50
    long = {}
    for file in files:
        lines = len(file.read_text(encoding="utf-8").splitlines())
        if lines > LONGEST.get(file.relative_to(ROOT).parts[0], LONGEST_SOURCE):
            long[name_of(file)] = lines
    assert not long, f"split these by idea: {long}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_says_what_it_is_and_what_it_offers(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "a docstring is missing at its top"
    defined: set[str] = set()
    offered: list[str] | None = None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign):
            names = {t.id for t in node.targets if isinstance(t, ast.Name)}
            defined |= names
            if "__all__" in names and isinstance(node.value, ast.List):
                offered = [e.value for e in node.value.elts if isinstance(e, ast.Constant)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            defined.add(node.target.id)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            defined |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
    public = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }
    if path.stem in ("__init__", "__main__"):
        return
    assert offered is not None, "__all__ is missing"
    assert offered == sorted(offered, key=sort_key), "__all__ is not sorted"
    assert set(offered) <= defined, f"__all__ names what is not there: {set(offered) - defined}"
    assert public <= set(offered), f"public, but not in __all__: {public - set(offered)}"


def sort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, as the linter sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


FORBIDDEN = {"pickle", "dill", "joblib", "shelve", "marshal", "torchvision", "lpips", "plyfile"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_executes_no_data(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & FORBIDDEN
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in FORBIDDEN
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "os.system")
            arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert arguments.get("allow_pickle", "False") == "False"
            if called == "torch.load":
                assert arguments.get("weights_only") == "True"


HEAVY = ("torch", "numpy", "PIL", "av", "rich", "imageio", "safetensors")


@pytest.mark.parametrize("statement", ["import polyfield", "import polyfield.cli.main"])
def test_nothing_heavy_at_import(statement):
    code = f"import sys; {statement}; print(*(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_rooms_refuse_to_be_imported_by_their_bare_names(tmp_path):
    """From the repository's root `import datasets` would give another module of the same code."""
    for room in ("cli", "datasets", "fields", "meshing", "renderers", "training"):
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {room}"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert f"import polyfield.{room}, not {room}" in done.stderr
