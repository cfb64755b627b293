"""What the README says can be typed: its commands parse, its make targets and files are there."""

import re
import shlex

import pytest

from polyfield.cli.main import parser_for


def blocks(text: str) -> str:
    return "\n".join(re.findall(r"```\n(.*?)```", text, flags=re.DOTALL))


def commands(repo_root) -> list[str]:
    text = (repo_root / "README.md").read_text(encoding="utf-8")
    typed = [line for line in blocks(text).splitlines() if line.startswith("polyfield ")]
    return typed + re.findall(r"`(polyfield [a-z]+ --[^`]+)`", text)


def test_commands_parse(repo_root):
    found = commands(repo_root)
    assert len(found) >= 6
    for line in found:
        _, command, *words = shlex.split(line, comments=True)
        parser_for(command).parse_args(words)


def test_flags_in_tables_exist(repo_root):
    text = (repo_root / "README.md").read_text(encoding="utf-8")
    flags = set(re.findall(r"(--[a-z][a-z-]+)", text))
    known = {
        flag
        for name in ("train", "fit", "convert", "compare", "render", "eval", "mesh")
        for flag in flags_of(name)
    }
    assert flags <= known, f"no command has {flags - known}"


def flags_of(command: str) -> set[str]:
    return set(re.findall(r"(--[a-z-]+)", parser_for(command).format_help()))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(repo_root, page):
    text = (repo_root / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (repo_root / target).exists(), f"{page} links to {target}, which is not there"


def test_make_targets_exist(repo_root):
    makefile = (repo_root / "Makefile").read_text(encoding="utf-8")
    readme = (repo_root / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", blocks(readme), flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
