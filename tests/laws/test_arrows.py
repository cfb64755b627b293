"""The rooms import only downwards, and no two modules import each other, by whatever detour.

Reads every import of the repository, also those inside functions: an arrow that is drawn late is an arrow all the same.
Only what stands under `if TYPE_CHECKING:` is left out of the search for circles, for it does not run.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON_OF_CSRC = {"__init__", "__main__", "config", "errors", "files", "native", "_core"}

# What each room may import besides itself. Doors: `__init__` and `__main__` of the umbrella lead to the rooms by name.
BELOW: dict[str, set[str]] = {
    "csrc": set(),
    "datasets": {"csrc"},
    "fields": {"csrc"},
    "renderers": {"fields", "datasets", "csrc"},
    "meshing": {"fields", "renderers", "datasets", "csrc"},
    "training": {"meshing", "fields", "renderers", "datasets", "csrc"},
    "viewer": {"fields", "renderers", "meshing", "datasets", "csrc"},
    "cli": {"training", "viewer", "meshing", "fields", "renderers", "datasets", "csrc"},
}
DOORS = {"polyfield", "polyfield.__main__"}


def module_of(path: Path) -> str:
    """Import name of a file of the repository."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "csrc":
        parts = parts[2:]  # csrc/polyfield is the umbrella itself
    if parts and parts[-1] == "__init__":
        parts.pop()
    return ".".join(["polyfield", *parts])


def room_of(module: str) -> str:
    """Room of a module."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in BELOW else "csrc"


def sources() -> dict[str, Path]:
    folders = [ROOT / "csrc" / "polyfield", *(ROOT / room for room in BELOW if room != "csrc")]
    files = [file for folder in folders if folder.is_dir() for file in folder.rglob("*.py")]
    return {module_of(file): file for file in files}


def imports(module: str, tree: ast.AST, package: bool) -> list[tuple[str, bool]]:
    """Names of polyfield that a module imports, and whether the import ever runs."""
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, runs: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                visit(child, False)
            for child in node.orelse:
                visit(child, runs)
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, runs) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: len(module.split(".")) - node.level + package]
                base = ".".join([*above, *([node.module] if node.module else [])])
            found.extend((f"{base}.{alias.name}", runs) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.append((first.value, runs))
            elif isinstance(first, ast.JoinedStr) and isinstance(first.values[0], ast.Constant):
                found.append((f"{first.values[0].value}*", runs))
        for child in ast.iter_child_nodes(node):
            visit(child, runs)

    visit(tree, True)
    return [(name, runs) for name, runs in found if name.split(".")[0] == "polyfield"]


def arrows() -> list[tuple[str, str, bool]]:
    """(from, to, whether it runs) for every import between modules of ours."""
    known = sources()
    result = []
    for module, path in known.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for name, runs in imports(module, tree, path.name == "__init__.py"):
            target = name
            while target not in known and "." in target:  # `from module import name` ends in a name
                target = target.rpartition(".")[0]
            if target != module:
                result.append((module, target if "*" not in name else name, runs))
    return result


def test_every_arrow_leads_downwards():
    upward = [
        f"{start} imports {end}"
        for start, end, _ in arrows()
        if start not in DOORS
        and room_of(end) != room_of(start)
        and room_of(end) not in BELOW[room_of(start)]
    ]
    assert not upward, "\n".join(upward)


def test_no_module_imports_itself_by_a_detour():
    graph: dict[str, set[str]] = {}
    for start, end, runs in arrows():
        if runs and start not in DOORS and "*" not in end:
            graph.setdefault(start, set()).add(end)
    circle = find_circle(graph)
    assert circle is None, " -> ".join(circle or [])


def find_circle(graph: dict[str, set[str]]) -> list[str] | None:
    done: set[str] = set()

    def walk(node: str, way: list[str]) -> list[str] | None:
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return None
        for after in sorted(graph.get(node, ())):
            if circle := walk(after, [*way, node]):
                return circle
        done.add(node)
        return None

    for start in sorted(graph):
        if circle := walk(start, []):
            return circle
    return None


def test_trainer_and_viewer_do_not_know_each_other():
    assert "viewer" not in BELOW["training"]
    assert "training" not in BELOW["viewer"]
    assert "datasets" not in BELOW["fields"]
    assert "fields" not in BELOW["datasets"]


def test_all_sources_are_seen():
    found = sources()
    assert {room_of(module) for module in found} >= {
        "csrc",
        "datasets",
        "fields",
        "meshing",
        "training",
        "cli",
    }
    assert {"polyfield", "polyfield.errors", "polyfield.cli.main"} <= found.keys()
    inside = {path.stem for path in (ROOT / "csrc" / "polyfield").glob("*.py")}
    assert inside <= PYTHON_OF_CSRC, "a new module of the umbrella: is it not a room's?"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import polyfield.fields.model", ["polyfield.fields.model"]),
        ("from polyfield.cli import main", ["polyfield.cli.main"]),
        ("def f():\n    from polyfield.cli.main import run", ["polyfield.cli.main.run"]),
        ("from . import adam", ["polyfield.training.adam"]),
        ("from ..fields import model", ["polyfield.fields.model"]),
        ("import_module('polyfield.viewer')", ["polyfield.viewer"]),
        ("importlib.import_module(f'polyfield.cli.{name}')", ["polyfield.cli.*"]),
        ("import torch", []),
    ],
)
def test_the_search_sees_imports_of_every_kind(source, names):
    found = imports("polyfield.training.loop", ast.parse(source), package=False)
    assert [name for name, _ in found] == names


def test_the_search_sees_a_circle():
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert find_circle({"a": {"b", "c"}, "b": {"c"}}) is None
    hidden = ast.parse("if TYPE_CHECKING:\n    from polyfield.cli import main")
    assert imports("polyfield.fields.x", hidden, False) == [("polyfield.cli.main", False)]
