"""A scene for commands that are run in processes of their own."""

from pathlib import Path

import pytest

from polyfield.datasets.builtin import builtin_scene
from polyfield.datasets.formats import blender


@pytest.fixture(scope="session")
def small_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read at once, where the built-in scene would be rendered by each process for seconds."""
    folder = tmp_path_factory.mktemp("scenes") / "small"
    blender.write(builtin_scene(views=9, size=24), folder)
    return folder
