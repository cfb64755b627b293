"""Looks of mesh files: what was written comes back, in each format; textures in closed form."""

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from torch import Generator, Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_export import EXPORTS, write_mesh
from polyfield.datasets.mesh_file import FORMATS, read_mesh
from polyfield.datasets.mesh_paint import Paint
from polyfield.datasets.painted_file import read_painted
from polyfield.errors import DataError, InputError, ShapeError


def ball() -> tuple[Mesh, Tensor]:
    shape = trimesh.creation.icosphere(2)
    mesh = Mesh(torch.tensor(shape.vertices), torch.tensor(shape.faces))
    return mesh, torch.rand(len(mesh.vertices), 3, generator=Generator().manual_seed(3))


@pytest.mark.parametrize("kind", EXPORTS)
def test_colours_of_vertices_come_back(kind: str, tmp_path: Path) -> None:
    mesh, colors = ball()
    write_mesh(tmp_path / f"a.{kind}", mesh, colors)
    again, paint = read_painted(tmp_path / f"a.{kind}")
    assert torch.allclose(again.corners, mesh.corners, rtol=0, atol=1e-6)  # float32, or digits
    assert paint is not None
    # Bytes: half a step of 1 / 255, and rounding; the parser itself turns colours of OBJ to bytes, downwards.
    step = 1.0 if kind == "obj" else 0.5
    assert float((paint.corners - colors[mesh.faces]).abs().max()) < step / 255 + 1e-6


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_without_looks_has_none(kind: str, tmp_path: Path) -> None:
    trimesh.creation.icosphere(1).export(tmp_path / f"a.{kind}")
    mesh, paint = read_painted(tmp_path / f"a.{kind}")
    assert len(mesh.faces) == len(read_mesh(tmp_path / f"a.{kind}").faces)
    assert paint is None or bool((paint.corners == paint.corners[0, 0]).all())


@pytest.mark.parametrize("kind", ["glb", "obj"])
def test_a_texture_lies_where_its_corners_say(kind: str, tmp_path: Path) -> None:
    """A square that shows a picture upright, as another program writes it."""
    picture = np.zeros((4, 8, 3), np.uint8)
    picture[:2, :4], picture[:2, 4:], picture[2:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])  # from the bottom, as trimesh has it
    image = Image.fromarray(picture)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=image)
    if kind == "obj":
        material = trimesh.visual.material.SimpleMaterial(image=image)
    visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    places = np.column_stack([uv, np.zeros(4)])
    shape = trimesh.Trimesh(places, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False)
    shape.export(tmp_path / f"a.{kind}")
    mesh, paint = read_painted(tmp_path / f"a.{kind}")
    assert paint is not None
    assert len(paint.textures) == 1
    centre = mesh.corners.mean(1).float()
    assert centre[:, 2].abs().max() == 0
    for place, color in (((0.2, 0.8), 0), ((0.8, 0.8), 1), ((0.6, 0.2), 2)):
        a, b, c = mesh.corners[:, :, :2].unbind(1)
        sides = torch.stack([b - a, c - a], 2)
        part = torch.linalg.solve(sides, torch.tensor(place).double() - a)
        weights = torch.cat([1 - part.sum(1, keepdim=True), part], 1)
        face = int(weights.amin(1).argmax())
        shown = paint.seen(torch.tensor([face]), weights[face : face + 1].float())[0]
        assert torch.allclose(shown, torch.eye(3)[color], rtol=0, atol=1e-6)  # rounding


def test_between_texels_colours_are_mixed_and_the_texture_is_repeated() -> None:
    texture = torch.randint(
        0, 256, (4, 4, 3), dtype=torch.uint8, generator=Generator().manual_seed(1)
    )
    uv = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    paint = Paint(torch.zeros(1, 3, 3), (texture,), uv, torch.zeros(1, dtype=torch.int64))

    def at(u: float, v: float) -> Tensor:
        return paint.seen(torch.tensor([0]), torch.tensor([[1 - u - v, u, v]]))[0] * 255

    line = texture.float()
    for u, v, wanted in (
        (1.5 / 4, 0.5 / 4, line[0, 1]),
        (2 / 4, 0.5 / 4, (line[0, 1] + line[0, 2]) / 2),
        (1.5 / 4, 1 / 4, (line[0, 1] + line[1, 1]) / 2),
        (0.0, 0.5 / 4, (line[0, 0] + line[0, 3]) / 2),
        (1.0 + 1.5 / 4, 0.5 / 4, line[0, 1]),
    ):
        assert torch.allclose(at(u, v), wanted, rtol=0, atol=1e-3)  # float32 of 255


def test_parts_have_looks_of_their_own(tmp_path: Path) -> None:
    """A red part, a moved and mirrored one with colours of vertices, and their order of corners."""
    red = trimesh.creation.box()
    red.visual = trimesh.visual.TextureVisuals(
        material=trimesh.visual.material.PBRMaterial(baseColorFactor=[255, 0, 0, 255])
    )
    other = trimesh.creation.icosphere(1)
    other.visual.vertex_colors = np.random.default_rng(0).integers(0, 255, (42, 4)).astype(np.uint8)
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = 5
    scene = trimesh.Scene()
    scene.add_geometry(red)
    scene.add_geometry(other, transform=mirror)
    scene.export(tmp_path / "a.glb")
    mesh, paint = read_painted(tmp_path / "a.glb")
    assert paint is not None
    moved = mesh.corners[:, 0, 0] > 2
    assert int(moved.sum()) == len(other.faces)
    assert torch.allclose(paint.corners[~moved], torch.tensor([1.0, 0, 0]), rtol=0, atol=1e-6)
    outwards = (
        mesh.normals[moved] * (mesh.corners[moved].mean(1) - torch.tensor([5.0, 0, 0]))
    ).sum(1)
    assert bool((outwards > 0).all())
    # A vertex has one colour in all of its faces.
    seen: dict[tuple[float, ...], list[float]] = {}
    for place, color in zip(
        mesh.corners[moved].view(-1, 3).tolist(),
        paint.corners[moved].view(-1, 3).tolist(),
        strict=True,
    ):
        assert seen.setdefault(tuple(place), color) == color
    assert len({tuple(color) for color in seen.values()}) == 42


def test_bad_files_are_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_painted(tmp_path / "none.ply")
    (tmp_path / "a.glb").write_bytes(b"glTF")
    with pytest.raises(DataError, match="damaged"):
        read_painted(tmp_path / "a.glb")
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 nan\nf 1 2 3\n")
    with pytest.raises(DataError, match="not finite"):
        read_painted(tmp_path / "a.obj")


def test_parts_of_paint_must_fit() -> None:
    with pytest.raises(ShapeError, match=r"uv must be \[2, 3, 2\]"):
        Paint(torch.zeros(2, 3, 3), (), torch.zeros(1, 3, 2))
    with pytest.raises(ShapeError, match="uv and texture_of"):
        Paint(torch.zeros(2, 3, 3), (torch.zeros(2, 2, 3, dtype=torch.uint8),))
