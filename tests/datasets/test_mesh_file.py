"""Mesh files of every kind: read back, joined, mended, and refused in one sentence."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyfield.datasets.mesh_file import FORMATS, read_mesh
from polyfield.errors import DataError, InputError

SHAPE = trimesh.creation.icosphere(1)  # 42 vertices, 80 faces


def exported(kind: str, shape: trimesh.Trimesh = SHAPE, **options: object) -> bytes:
    data = shape.export(file_type=kind, **options)
    return data.encode() if isinstance(data, str) else data


def saved(folder: Path, kind: str, data: bytes) -> Path:
    path = folder / f"shape.{kind}"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("obj", {}),
        ("off", {}),
        ("stl", {}),
        ("stl_ascii", {}),
        ("glb", {}),
        ("ply", {"encoding": "ascii"}),
        ("ply", {"encoding": "binary"}),
    ],
)
def test_every_format_comes_back(tmp_path, kind, options):
    mesh = read_mesh(saved(tmp_path, kind.partition("_")[0], exported(kind, **options)))
    assert (len(mesh.vertices), len(mesh.faces)) == (42, 80)
    assert mesh.edges.watertight
    assert mesh.notes == ()
    # STL and GLB hold single precision, text of OBJ and STL eight digits: 1e-7 of the radius, 1.
    corners = torch.tensor(SHAPE.vertices[SHAPE.faces])
    assert (mesh.corners - corners).abs().max() < 1e-7


def test_capitals_in_the_name(tmp_path):
    path = tmp_path / "shape.OBJ"
    path.write_bytes(exported("obj"))
    assert len(read_mesh(path).faces) == 80


def test_parts_of_a_scene_are_joined(tmp_path):
    scene = trimesh.Scene()
    for offset in (0.0, 5.0):
        scene.add_geometry(
            SHAPE, transform=trimesh.transformations.translation_matrix([offset, 0, 0])
        )
    mesh = read_mesh(saved(tmp_path, "glb", scene.export(file_type="glb")))
    assert len(mesh.faces) == 160
    low, high = mesh.box
    assert abs(float(high[0] - low[0]) - 7) < 1e-6


def test_polygons_materials_and_colours(tmp_path):
    text = """mtllib none.mtl
usemtl red
v 0 0 0 1 0 0
v 1 0 0 1 0 0
v 1 1 0 1 0 0
v 0 1 0 1 0 0
vt 0 0
vt 1 1
f 1/1 2/2 3/1 4/2
"""
    mesh = read_mesh(saved(tmp_path, "obj", text.encode()))
    assert (len(mesh.vertices), len(mesh.faces)) == (4, 2)
    assert float(mesh.areas.sum()) == 1
    off = "OFF\n4 1 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n"
    assert float(read_mesh(saved(tmp_path, "off", off.encode())).areas.sum()) == 1


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_empty_or_rubbish_is_refused(tmp_path, kind):
    with pytest.raises(DataError, match=r"shape\.\w+ is empty \(0 bytes\)"):
        read_mesh(saved(tmp_path, kind, b""))
    rubbish = np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8).tobytes()
    for data in (rubbish, b"\0" * 500, b"hello\n", exported("ply" if kind != "ply" else "off")):
        with pytest.raises(DataError, match=r"The mesh .*shape\.\w+ (cannot be|has no faces)"):
            read_mesh(saved(tmp_path, kind, data))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(["obj", "off", "ply", "stl", "stl_ascii", "glb"]), st.floats(0, 1))
def test_a_file_cut_off_anywhere_is_refused_or_is_a_smaller_mesh(tmp_path, kind, share):
    data = exported(kind)
    path = saved(tmp_path, kind.partition("_")[0], data[: int(share * (len(data) - 16))])
    if kind in ("obj", "stl_ascii"):
        # Text that does not say how much is to come: what is there is a mesh or nothing.
        with contextlib.suppress(DataError):
            assert len(read_mesh(path).faces) <= 80
    else:
        with pytest.raises(DataError, match=f"{re.escape(str(path))}[^\n]*$"):
            read_mesh(path)


QUADS = "4 0 1 2 3\n4 3 2 1 0\n"
POINTS = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
PLY = (
    "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    "element face {}\nproperty list uchar int vertex_indices\nend_header\n"
)


@pytest.mark.parametrize(
    ("kind", "head"), [("off", "OFF # four\n\n4 {} 0\n"), ("off", "OFF 4 {} 0\n"), ("ply", PLY)]
)
def test_text_that_ends_too_early_is_refused(tmp_path, kind, head):
    # Two squares are four triangles: as many as promised, or more, are no proof that all is there.
    for promised in (3, 4, 10**12, -1):
        data = (head.format(promised) + POINTS + QUADS).encode()
        with pytest.raises(DataError, match=r"shape\.\w+ (is cut off|cannot be|has no)"):
            read_mesh(saved(tmp_path, kind, data))
    whole = read_mesh(saved(tmp_path, kind, (head.format(2) + POINTS + QUADS + "\n").encode()))
    assert len(whole.faces) == 4


def test_a_text_ply_of_all_is_read(tmp_path):
    data = exported("ply", encoding="ascii")
    assert len(read_mesh(saved(tmp_path, "ply", data)).faces) == 80
    with pytest.raises(DataError, match=r"its head promises 122 rows .*, but 100 are there"):
        read_mesh(saved(tmp_path, "ply", b"\n".join(data.splitlines()[: 100 - 122])))


@pytest.mark.parametrize("face", ["0 1 2", "1 2 0", "1/1 0/1 2/1", "1//1 2//1 0//1", "1 2 00"])
def test_obj_counts_from_one(tmp_path, face):
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 1 1 0\nf 2 3 4\n"
    assert len(read_mesh(saved(tmp_path, "obj", text.encode())).faces) == 1
    for end in ("\n", ""):  # of the last line, which may have none
        with pytest.raises(DataError, match="a face of vertex 0, but OBJ counts from 1"):
            read_mesh(saved(tmp_path, "obj", f"{text}f {face}{end}".encode()))


@pytest.mark.parametrize(
    "face",
    [
        "-3 -2 -1",
        "-3//-1 -2//-2 -1//-3",
        "-3/-3/-3 -2/-2/-2 -1/-1/-1",
        "-3/1 -2/2 -1/3",
        "-3 \\\n-2 \\\r\n -1",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_negative_numbers_count_back_from_their_face(tmp_path, face, end):
    more = end.join(["vt 0 0", "vt 1 0", "vt 0 1", "vn 0 0 1", "vn 0 0 1", "vn 0 0 1"])
    low = end.join(["v 0 0 0", "v 1 0 0", "v 0 1 0"])
    high = end.join(["v 0 0 5", "v 2 0 5", "v 0 2 5"])
    text = end.join([low, more, f"f {face}", "usemtl red", high, more, f"f {face}"])
    mesh = read_mesh(saved(tmp_path, "obj", text.encode()))
    assert mesh.notes == ()
    assert sorted(mesh.areas.tolist()) == [0.5, 2.0]


def test_negative_and_positive_numbers_and_polygons_mix(tmp_path):
    square = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"
    for faces, area in (
        ("f -4 -3 -2 -1\n", 1.0),
        ("f 1 2 -2 04\n", 1.0),  # a zero in front makes no other number of it
        ("f -4//1 2//1 -2//1\nf 1 2 5\nv 0 0 1\n", 1.0),  # the last one comes after its face
        ("f 1 2 3 4\nf -4\t-3\t-2\nv 0 0 1\nf -1 1 2\n", 1.5),  # one of them is there twice
    ):
        mesh = read_mesh(saved(tmp_path, "obj", (square + faces).encode()))
        assert float(mesh.areas.sum()) == area


def test_a_face_before_its_vertices_is_refused(tmp_path):
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -4 -2 -1\nv 0 0 1\n"
    with pytest.raises(DataError, match=r"a face of vertex -4, .* only 3 come before it"):
        read_mesh(saved(tmp_path, "obj", text.encode()))


def test_a_cloud_of_points_has_no_faces(tmp_path):
    cloud = trimesh.PointCloud(SHAPE.vertices).export(file_type="ply")
    with pytest.raises(DataError, match="has no faces; is it a point cloud"):
        read_mesh(saved(tmp_path, "ply", cloud))


def test_broken_meshes_name_the_file(tmp_path):
    for text, message in (
        ("v 0 0 0\nv 1 0 0\nv nan 1 0\nf 1 2 3\n", "not finite"),
        ("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "all of its faces are flat"),
    ):
        with pytest.raises(DataError, match=f"shape.obj cannot be used: .*{message}"):
            read_mesh(saved(tmp_path, "obj", text.encode()))
    with pytest.raises(DataError, match=r"shape\.off cannot be"):
        read_mesh(saved(tmp_path, "off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n"))


def test_names_that_lead_nowhere(tmp_path):
    with pytest.raises(InputError, match=r"does not end like a mesh file\. Did you mean 'ply'\?"):
        read_mesh(tmp_path / "shape.plt")
    with pytest.raises(
        InputError, match=r"does not end like a mesh file\. Known: glb, obj, off, ply"
    ):
        read_mesh(tmp_path / "shape")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_mesh(tmp_path / "none.obj")
    (tmp_path / "folder.obj").mkdir()
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_mesh(tmp_path / "folder.obj")
    with pytest.raises(InputError, match="holds a zero byte"):
        read_mesh("a\0.obj")


# Vertices and faces after merging, border and non-manifold edges: the table of the data's README.
KNOWN = {
    "armadillo.obj": (49_990, 99_976, 0, 0),
    "fertility.off": (4_494, 9_000, 0, 0),
    "tshirt.obj": (7_702, 15_180, 228, 0),
    "truck.obj": (2_956, 4_770, 1_388, 54),
}


@pytest.mark.parametrize("name", KNOWN)
def test_real_meshes(data_dir, name):
    mesh = read_mesh(data_dir / "meshes" / name)
    edges = mesh.edges
    assert KNOWN[name] == (len(mesh.vertices), len(mesh.faces), edges.boundary, edges.nonmanifold)
    assert edges.watertight == (name in ("armadillo.obj", "fertility.off"))


def test_a_real_mesh_with_flat_and_repeated_faces(data_dir, tmp_path):
    mesh = read_mesh(data_dir / "meshes" / "chair_0893.off")
    assert (len(mesh.vertices), len(mesh.faces)) == (2_889, 4_230 - 14 - 15)
    assert mesh.notes == (
        "14 of 4230 faces had no area and were dropped.",
        "15 of 4230 faces were there twice and were dropped.",
    )
    buffer = io.BytesIO(exported("ply", trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)))
    again = read_mesh(saved(tmp_path, "ply", buffer.getvalue()))
    assert len(again.faces) == len(mesh.faces)
