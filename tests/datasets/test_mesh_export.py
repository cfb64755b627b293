"""Written meshes: other readers and our own see what was written, and a failure leaves the old file."""

import errno
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from torch import Generator, Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_export import EXPORTS, check_export, write_mesh
from polyfield.datasets.mesh_file import read_mesh
from polyfield.errors import InputError, ShapeError
from polyfield.meshing.extract import vertex_normals

SHAPE = trimesh.creation.icosphere(2)
MESH = Mesh(torch.tensor(SHAPE.vertices), torch.tensor(SHAPE.faces))
COLORS = torch.rand(len(MESH.vertices), 3, generator=Generator().manual_seed(0))
NORMALS = vertex_normals(MESH.vertices, MESH.faces)
FAR = (1e6, -1e6, 3e5)


def moved(by: tuple[float, ...] = FAR, scale: float = 1.0) -> Mesh:
    return Mesh(scale * MESH.vertices + torch.tensor(by, dtype=torch.float64), MESH.faces)


def glb(path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The tree of a GLB file and what each accessor holds."""
    data = path.read_bytes()
    magic, version, size, length, kind = struct.unpack_from("<4sIII4s", data)
    assert (magic, version, size, kind) == (b"glTF", 2, len(data), b"JSON")
    tree = json.loads(data[20 : 20 + length])
    count, kind = struct.unpack_from("<I4s", data, 20 + length)
    assert kind == b"BIN\0"
    assert 28 + length + count == len(data)
    assert length % 4 == count % 4 == 0
    body, arrays = data[28 + length :], list[np.ndarray]()
    for accessor in tree["accessors"]:
        view = tree["bufferViews"][accessor["bufferView"]]
        assert view["byteOffset"] % 4 == 0
        part = body[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        number = {5123: "<u2", 5125: "<u4", 5126: "<f4"}[accessor["componentType"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        arrays.append(np.frombuffer(part, number).reshape(accessor["count"], width))
    return tree, arrays


def attribute(path: Path, name: str) -> np.ndarray:
    tree, arrays = glb(path)
    return arrays[tree["meshes"][0]["primitives"][0]["attributes"][name]]


@pytest.mark.parametrize("kind", EXPORTS)
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("colored", [False, True])
def test_another_reader_sees_the_mesh(
    tmp_path: Path, kind: str, scale: float, colored: bool
) -> None:
    mesh, path = moved((0.0, 0.0, 0.0), scale), tmp_path / f"mesh.{kind}"
    write_mesh(path, mesh, COLORS if colored else None)
    scene = trimesh.load_scene(path, process=False)
    (shape,) = scene.dump()
    assert np.array_equal(shape.faces, MESH.faces)
    # Single precision, or as many digits as tell a millionth of the size: of a diameter of 2.
    assert np.abs(shape.vertices - mesh.vertices.numpy()).max() <= 2e-7 * scale


@pytest.mark.parametrize("kind", EXPORTS)
@pytest.mark.parametrize("by", [(0.0, 0.0, 0.0), FAR])
def test_our_reader_sees_the_mesh_also_far_from_the_origin(
    tmp_path: Path, kind: str, by: tuple[float, ...]
) -> None:
    mesh, path = moved(by), tmp_path / f"mesh.{kind}"
    write_mesh(path, mesh, COLORS, NORMALS)
    again = read_mesh(path)
    assert again.notes == ()
    assert again.edges.watertight
    # In float32 a coordinate of 1e6 is wrong by 0.03. Here it is a millionth of the size, or less; the reader may add
    # the rounding of float64 at 1e6, 1e-10.
    assert float((again.corners - mesh.corners).abs().max()) < 1e-6


def test_a_ply_is_double_only_where_it_must_be(tmp_path: Path) -> None:
    sizes = []
    for by in ((0.0, 0.0, 0.0), FAR):
        write_mesh(tmp_path / "mesh.ply", moved(by))
        sizes.append((tmp_path / "mesh.ply").stat().st_size)
    count = len(MESH.vertices)
    # Four bytes more a coordinate, and "double" has one letter more than "float", three times.
    assert sizes[1] - sizes[0] == 12 * count + 3


@pytest.mark.parametrize("kind", ["ply", "obj"])
def test_colours_of_ply_and_obj_are_as_they_were_given(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"mesh.{kind}"
    write_mesh(path, MESH, COLORS)
    shape = trimesh.load_mesh(path, process=False)
    seen = shape.visual.vertex_colors[:, :3].astype(float) / 255
    # Half of a step of a byte; a reader of text may cut off where it should round: a whole one.
    assert np.abs(seen - COLORS.numpy()).max() <= (0.5 if kind == "ply" else 1.0) / 255 + 1e-4


def linear(srgb: Tensor) -> Tensor:
    """IEC 61966-2-1."""
    c = srgb.double()
    return torch.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def test_colours_of_glb_are_linear_light_and_opaque(tmp_path: Path) -> None:
    path, colors = tmp_path / "mesh.glb", COLORS.clone()
    colors[:3] = torch.tensor([0.0, 0.02, 1.0])[:, None]
    write_mesh(path, MESH, colors)
    kept = torch.tensor(attribute(path, "COLOR_0").astype(np.float64) / 65535)
    assert bool((kept[:, 3] == 1).all())
    # Half of a step of two bytes.
    assert float((kept[:, :3] - linear(colors)).abs().max()) <= 0.5 / 65535 + 1e-12
    tree, _ = glb(path)
    assert tree["materials"][0]["extensions"] == {"KHR_materials_unlit": {}}
    assert tree["extensionsUsed"] == ["KHR_materials_unlit"]
    assert tree["accessors"][1]["normalized"] is True


def test_dark_colours_of_glb_stay_apart(tmp_path: Path) -> None:
    """One byte of linear light would have four steps here."""
    dark = torch.linspace(0, 0.1, len(MESH.vertices))
    write_mesh(tmp_path / "mesh.glb", MESH, dark[:, None].repeat(1, 3))
    kept = attribute(tmp_path / "mesh.glb", "COLOR_0")[:, 0].astype(int)
    assert bool((np.diff(kept) > 0).all())


def test_colours_beyond_their_range_are_cut_off(tmp_path: Path) -> None:
    for kind in EXPORTS:
        one, other = tmp_path / f"one.{kind}", tmp_path / f"other.{kind}"
        write_mesh(one, MESH, 3 * COLORS - 1)
        write_mesh(other, MESH, (3 * COLORS - 1).clamp(0, 1))
        assert one.read_bytes() == other.read_bytes()


def test_a_glb_without_colours_is_lit_and_has_no_extension(tmp_path: Path) -> None:
    write_mesh(tmp_path / "mesh.glb", MESH)
    tree, _ = glb(tmp_path / "mesh.glb")
    assert "extensionsUsed" not in tree
    assert list(tree["meshes"][0]["primitives"][0]["attributes"]) == ["POSITION"]
    assert tree["materials"][0]["doubleSided"] is True


@pytest.mark.parametrize("colored", [False, True])
def test_normals_are_kept_in_glb(tmp_path: Path, colored: bool) -> None:
    path = tmp_path / "mesh.glb"
    write_mesh(path, moved(), COLORS if colored else None, NORMALS)
    assert np.array_equal(attribute(path, "NORMAL"), NORMALS.float().numpy())
    # Directions are not moved: the node has no rotation.
    assert set(glb(path)[0]["nodes"][0]) == {"mesh", "translation"}


def test_a_glb_tells_the_box_of_what_it_holds(tmp_path: Path) -> None:
    write_mesh(tmp_path / "mesh.glb", moved(scale=3.0), COLORS, NORMALS)
    tree, arrays = glb(tmp_path / "mesh.glb")
    place = tree["meshes"][0]["primitives"][0]["attributes"]["POSITION"]
    accessor = tree["accessors"][place]
    # The format wants the bounds to be those of the float32 numbers, to the bit.
    assert accessor["min"] == arrays[place].min(0).tolist()
    assert accessor["max"] == arrays[place].max(0).tolist()
    # Told from the middle, which the node moves back: a few roundings of float64 at 1e6.
    assert np.abs(np.array(tree["nodes"][0]["translation"]) - FAR).max() < 1e-9
    assert np.abs(arrays[place]).max() <= 3.0 + 1e-6
    assert tree["buffers"] == [{"byteLength": sum(array.nbytes for array in arrays)}]


@pytest.mark.parametrize("kind", EXPORTS)
def test_capitals_and_folders_on_the_way(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a" / "b" / f"mesh.{kind.upper()}"
    write_mesh(str(path), MESH)
    assert len(read_mesh(path).faces) == len(MESH.faces)


@pytest.mark.parametrize("kind", EXPORTS)
def test_the_same_mesh_is_the_same_file(tmp_path: Path, kind: str) -> None:
    for name in ("one", "other"):
        write_mesh(tmp_path / f"{name}.{kind}", MESH, COLORS, NORMALS)
    assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"other.{kind}").read_bytes()


@pytest.mark.parametrize("kind", EXPORTS)
def test_a_failing_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / f"mesh.{kind}"
    write_mesh(path, MESH)
    before = path.read_bytes()

    class Full(io.FileIO):
        def write(self, data: Any, /) -> int:
            super().write(bytes(data)[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

        def writelines(self, lines: Any, /) -> None:
            for line in lines:
                self.write(line)

    monkeypatch.setattr(Path, "open", lambda self, mode="r": Full(self, mode.replace("b", "")))
    with pytest.raises(InputError, match=rf"mesh\.{kind} cannot be written: No space left on dev"):
        write_mesh(path, moved(), COLORS)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_names_that_cannot_be_written_to(tmp_path: Path) -> None:
    for name in ("mesh.stl", "mesh", "ply", ".glb"):
        with pytest.raises(InputError, match=r"ends in \.ply, \.obj or \.glb, but this is"):
            write_mesh(tmp_path / name, MESH)
    with pytest.raises(InputError, match=r"Did you mean 'glb'\?"):
        check_export("mesh.gltb")
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_export(tmp_path / "folder.ply")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"mesh\.ply cannot be written: (Not a dir|File exists)"):
        write_mesh(tmp_path / "file" / "mesh.ply", MESH)
    with pytest.raises(InputError, match=r"cannot be written: File name too long"):
        write_mesh(tmp_path / f"{'long' * 100}.obj", MESH)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.ply"]


@pytest.mark.parametrize("name", ["a\0.ply", "a\0b/mesh.ply"])
def test_a_zero_byte_in_a_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="zero byte"):
        write_mesh(tmp_path / name, MESH)


def test_a_mesh_beyond_single_precision_is_written_where_it_can_be(tmp_path: Path) -> None:
    """Numbers above 3e38: in double precision, as text, or not at all."""
    mesh = moved((0.0, 0.0, 0.0), 1e50)
    for kind in ("ply", "obj"):
        write_mesh(tmp_path / f"mesh.{kind}", mesh)
        again = read_mesh(tmp_path / f"mesh.{kind}")
        assert float((again.corners / mesh.corners.abs().max() - MESH.corners).abs().max()) < 1e-6
    with pytest.raises(InputError, match=r"\.glb"):
        write_mesh(tmp_path / "mesh.glb", mesh)


@pytest.mark.parametrize("name", ["colors", "normals"])
def test_one_for_each_vertex_is_needed(tmp_path: Path, name: str) -> None:
    with pytest.raises(ShapeError, match=rf"{name} must be \[162, 3\], one for each vertex"):
        write_mesh(tmp_path / "mesh.glb", MESH, **{name: torch.zeros(161, 3)})
    assert not list(tmp_path.iterdir())
