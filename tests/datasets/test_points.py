"""Point clouds in PLY files."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polyfield.datasets.points import read_points, write_points
from polyfield.errors import DataError, InputError

HEADER = """ply
format ascii 1.0
comment made by hand
element vertex 2
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
element face 1
property list uchar int vertex_indices
end_header
"""


def saved(folder: Path, text: str) -> Path:
    path = folder / "points.ply"
    path.write_text(text)
    return path


@given(st.integers(0, 20), st.booleans())
def test_points_survive_being_written(tmp_path_factory, count, colored):
    points = torch.rand(count, 3, dtype=torch.float64) - 0.5
    colors = torch.randint(0, 256, (count, 3), dtype=torch.uint8) if colored else None
    path = tmp_path_factory.mktemp("ply") / "points.ply"
    write_points(path, points, colors)
    back, back_colors = read_points(path)
    assert torch.equal(back, points)
    assert (back_colors is None) == (colors is None)
    if colors is not None:
        assert torch.equal(back_colors, colors)


def test_text_with_faces_behind(tmp_path):
    path = saved(tmp_path, HEADER + "1 2 3 4 5 6\n-1 0.5 1e2 7 8 255\n3 0 1 0\n")
    points, colors = read_points(path)
    assert points.tolist() == [[1, 2, 3], [-1, 0.5, 100]]
    assert colors.tolist() == [[4, 5, 6], [7, 8, 255]]


def test_the_other_byte_order(tmp_path):
    import numpy as np

    path = tmp_path / "points.ply"
    header = HEADER.replace("ascii", "binary_big_endian").split("element face")[0] + "end_header\n"
    row = np.array(
        [((1, 2, 3), (4, 5, 6)), ((7, 8, 9), (10, 11, 12))], dtype=[("p", ">f4", 3), ("c", "u1", 3)]
    )
    path.write_bytes(header.encode() + row.tobytes())
    points, colors = read_points(path)
    assert points.tolist() == [[1, 2, 3], [7, 8, 9]]
    assert colors.tolist() == [[4, 5, 6], [10, 11, 12]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a PLY file"),
        ("solid", "is not a PLY file"),
        (HEADER, "is cut off: 0 of 2 vertices are there"),
        (HEADER + "1 2 3 4 5 6\n1 2\n", "a vertex is not 6 numbers"),
        (HEADER + "1 2 3 4 5 6\n1 2 x 4 5 6\n", "a vertex is not 6 numbers"),
        (HEADER + "1 2 3 4 5 6\n1 2 nan 4 5 6\n", "has a vertex that is not finite"),
        (HEADER.replace("float z", "float w"), "has vertices without x, y and z"),
        (
            HEADER.replace("float z", "floaty z"),
            "a line that is not understood: 'property floaty z'",
        ),
        (HEADER.replace("float z", "float y"), "names a property twice"),
        (HEADER.replace("format ascii 1.0\n", ""), "lacks the format or the vertices"),
        (HEADER.replace("element vertex", "element edge"), "its first element must be vertex"),
    ],
)
def test_broken_files_are_one_sentence(tmp_path, text, message):
    with pytest.raises(DataError) as raised:
        read_points(saved(tmp_path, text))
    assert message in str(raised.value)


def test_a_binary_file_cut_off_at_any_byte(tmp_path):
    path = tmp_path / "points.ply"
    write_points(path, torch.rand(3, 3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.uint8))
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"cut off|not a PLY file"):
            read_points(path)


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_points(tmp_path / "none.ply")
