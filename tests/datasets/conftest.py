"""Small scenes for the tests of readers."""

from pathlib import Path

import pytest

from polyfield.datasets.builtin import builtin_scene
from polyfield.datasets.scene import Scene


@pytest.fixture(scope="session")
def small_scene() -> Scene:
    """The built-in scene, small: 9 views of 24x24 pixels."""
    return builtin_scene(views=9, size=24)


@pytest.fixture
def scene_with_images(data_dir: Path, tmp_path: Path):
    """Make a folder that links to the images of a real scene, but has copies of its other files to spoil."""

    def make(name: str) -> Path:
        source = data_dir / "scenes" / name
        folder = tmp_path / name
        folder.mkdir()
        for entry in source.iterdir():
            if entry.is_dir() and entry.name != "sparse":
                (folder / entry.name).symlink_to(entry)
        for file in (*source.glob("*.json"), *source.glob("*.npy"), *source.glob("sparse/0/*.bin")):
            target = folder / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
        return folder

    return make
