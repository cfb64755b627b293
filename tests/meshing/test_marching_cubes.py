"""Marching cubes: closed surfaces, closed forms, and the topology of the interpolated function."""

import itertools
import math

import pytest
import torch
from torch import Generator, Tensor

from polyfield import native
from polyfield.datasets.mesh import Mesh
from polyfield.errors import DataError, ShapeError
from polyfield.meshing.marching_cubes import LatticeSurface, SlabMesher, marching_cubes
from polyfield.meshing.marching_cubes_reference import marching_cubes_reference

native_alone = pytest.mark.skipif(
    not native.available(), reason="the reference triangulates by fans: other vertices within cells"
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


def walled(values: Tensor) -> Tensor:
    """With a border that is outside, so that the surface is closed."""
    return torch.nn.functional.pad(values, (1,) * 6, value=-1.0)


def lattice(side: int) -> tuple[Tensor, Tensor, Tensor]:
    line = torch.linspace(-1, 1, side)
    return torch.meshgrid(line, line, line, indexing="ij")


def sphere(side: int, radius: float = 0.7) -> Tensor:
    return torch.stack(lattice(side)).norm(dim=0) - radius


def gyroid(side: int, waves: float = 6.0) -> Tensor:
    x, y, z = (waves * axis for axis in lattice(side))
    return x.sin() * y.cos() + y.sin() * z.cos() + z.sin() * x.cos()


def halves(faces: Tensor) -> Tensor:
    """Edges as each face runs along them."""
    return torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def characteristic(faces: Tensor) -> int:
    """Vertices - edges + faces."""
    edges = halves(faces).sort(1).values.unique(dim=0)
    return len(faces.unique()) - len(edges) + len(faces)


def pieces(faces: Tensor) -> int:
    names = {v: v for v in faces.unique().tolist()}

    def root(v: int) -> int:
        while names[v] != v:
            names[v] = names[names[v]]
            v = names[v]
        return v

    for a, b, c in faces.tolist():
        names[root(a)] = root(b)
        names[root(b)] = root(c)
    return sum(root(v) == v for v in names)


def assert_sound(surface: LatticeSurface, shape: tuple[int, ...]) -> None:
    """Every edge has two faces, which run along it in opposite directions; at the lattice's borders it may have one."""
    vertices, faces = surface
    runs, times = halves(faces).unique(dim=0, return_counts=True)
    assert int(times.max()) == 1
    there = {tuple(run) for run in runs.tolist()}
    alone = torch.tensor([run for run in runs.tolist() if (run[1], run[0]) not in there])
    if len(alone):
        ends = vertices[alone]
        last = torch.tensor(shape) - 1
        on_border = ((ends == 0) | (ends == last)).all(1).any(1)
        assert bool(on_border.all())
    assert torch.equal(faces.unique(), torch.arange(len(vertices)))
    corners = vertices[faces].double()
    areas = torch.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], dim=1).norm(
        dim=1
    )
    assert bool((areas > 0).all())


def volume(surface: LatticeSurface) -> float:
    a, b, c = surface.vertices.double()[surface.faces].unbind(1)
    return float((a * torch.cross(b, c, dim=1)).sum()) / 6


@pytest.mark.parametrize("shape", [(2, 2, 2), (3, 2, 5), (4, 4, 4), (2, 3, 65), (3, 3, 130)])
def test_noise_gives_surfaces_without_holes(shape: tuple[int, int, int]) -> None:
    for seed in range(40):
        values = noise(*shape, seed=seed)
        surface = marching_cubes(values)
        if len(surface.faces):
            assert_sound(surface, shape)
        closed = marching_cubes(walled(values))
        assert_sound(closed, tuple(side + 2 for side in shape))
        assert Mesh(closed.vertices.double(), closed.faces).edges.watertight


@pytest.mark.parametrize("code", range(256))
def test_every_cell_is_cut_as_the_reference_cuts_it(code: int) -> None:
    """All 256 patterns of signs, with values that decide them one way and another."""
    up = torch.tensor([code >> c & 1 for c in range(8)]).view(2, 2, 2) * 2 - 1
    for seed in range(6):
        values = walled(up * noise(2, 2, 2, seed=seed).abs().clamp_min(1e-3))
        one, other = marching_cubes(values), LatticeSurface(*marching_cubes_reference(values))
        if not code:
            assert len(one.faces) == len(other.faces) == 0
            continue
        assert_sound(one, tuple(values.shape))
        assert characteristic(one.faces) == characteristic(other.faces)
        assert pieces(one.faces) == pieces(other.faces)


def test_topology_is_that_of_the_interpolated_function() -> None:
    """Cells cut into 16^3, of which hardly one is ambiguous: the same pieces and handles, in the mean of many."""
    same, fine = 0, 16
    cases = 60
    for seed in range(cases):
        values = noise(2, 2, 2, seed=seed)
        side = fine + 1
        dense = torch.nn.functional.interpolate(
            values[None, None], (side,) * 3, mode="trilinear", align_corners=True
        )[0, 0]
        if not len(marching_cubes(values).faces):
            assert not len(marching_cubes(dense).faces)
            same += 1
            continue
        coarse, exact = (marching_cubes(v).faces for v in (values, dense))
        same += (characteristic(coarse), pieces(coarse)) == (characteristic(exact), pieces(exact))
    # Where a passage is narrower than a sixteenth of a cell the fine lattice misses it.
    assert same >= cases - 2


@native_alone
@pytest.mark.parametrize("below", [False, True])
def test_a_sphere_has_its_volume_and_faces_outwards(below: bool) -> None:
    side, radius = 48, 0.7
    values = sphere(side, radius)
    surface = marching_cubes(values if below else -values, below=below)
    assert_sound(surface, tuple(values.shape))
    assert characteristic(surface.faces) == 2
    unit = (side - 1) / 2
    # Vertices lie up to h^2 / 8r within the sphere, where the distance bends along an edge, and so do chords between
    # them: three times as much of the volume as of the radius.
    inwards = 2 * (1 / unit) ** 2 / (8 * radius)
    assert 0 < 1 - volume(surface) / unit**3 / (4 / 3 * math.pi * radius**3) < 3 * inwards / radius
    distances = (surface.vertices / unit - 1).norm(dim=1)
    assert float((distances - radius).abs().max()) < inwards


@native_alone
@pytest.mark.parametrize("make", [sphere, gyroid])
def test_the_surface_is_that_of_scikit_image(make) -> None:
    skimage = pytest.importorskip("skimage.measure", reason="scikit-image is the oracle here")
    values = make(40)
    surface = marching_cubes(values, 0.05)
    theirs, their_faces, _, _ = skimage.marching_cubes(values.numpy(), 0.05)
    assert len(surface.faces) == len(their_faces)
    theirs = torch.tensor(theirs.copy())
    assert len(surface.vertices) == len(theirs)
    # Each vertex has its fellow, to the rounding of float32 at coordinates of 40 and our distance from lattice points.
    nearest = torch.cdist(surface.vertices.double(), theirs.double()).amin(1)
    assert float(nearest.max()) < 1 / 1024 + 1e-5


@native_alone
def test_vertices_lie_where_the_function_passes_the_level() -> None:
    values = noise(9, 8, 7)
    vertices, _ = marching_cubes(values, 0.3)
    reference, _ = marching_cubes_reference(values, 0.3)
    edges = (vertices == vertices.round()).sum(1) == 2
    theirs = (reference == reference.round()).sum(1) == 2
    mine, theirs = (torch.tensor(sorted(v.tolist())) for v in (vertices[edges], reference[theirs]))
    # The reference divides in float64: a few roundings of float32 at coordinates up to 8.
    torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-6)
    inner = vertices[~edges].double()
    low = inner.floor().long()
    part = inner - low
    value = torch.zeros(len(inner), dtype=torch.float64)
    for corner in itertools.product((0, 1), repeat=3):
        offset = torch.tensor(corner)
        weight = torch.where(offset.bool(), part, 1 - part).prod(1)
        value += weight * values.double()[tuple((low + offset).T)]
    # Vertices within cells are drawn to the surface in four steps, but not out of the cell.
    assert float((value - 0.3).abs().median()) < 1e-4


@pytest.mark.parametrize("cuts", [[20], [1, 1, 18], [7, 6, 7], [19, 1], [0, 5, 15]])
def test_slabs_make_no_seams(cuts: list[int]) -> None:
    values = noise(20, 9, 70)
    mesher = SlabMesher(9, 70)
    for slab in values.split(cuts):
        mesher.add(slab)
    whole, slabs = marching_cubes(values), mesher.surface()
    assert_sound(slabs, tuple(values.shape))
    assert len(whole.vertices) == len(slabs.vertices)
    # The same triangles, by where their corners are, beginning with the least of them.
    assert triangles(whole) == triangles(slabs)


def triangles(surface: LatticeSurface) -> set[tuple[tuple[float, ...], ...]]:
    found = set()
    for corners in surface.vertices[surface.faces].tolist():
        places = [tuple(corner) for corner in corners]
        first = places.index(min(places))
        found.add(tuple(places[first:] + places[:first]))
    return found


def test_threads_do_not_change_a_bit() -> None:
    values, before = noise(40, 20, 30), torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(marching_cubes(values))
    torch.set_num_threads(before)
    for other in found[1:]:
        assert torch.equal(found[0].vertices, other.vertices)
        assert torch.equal(found[0].faces, other.faces)


def test_values_at_the_level_make_no_points_of_triangles() -> None:
    """A box whose sides are lattice planes, exactly at the level."""
    x, y, z = (axis.abs() for axis in lattice(17))
    surface = marching_cubes(torch.maximum(torch.maximum(x, y), z) - 0.5, below=True)
    assert_sound(surface, (17, 17, 17))
    assert characteristic(surface.faces) == 2
    assert len(surface.vertices.unique(dim=0)) == len(surface.vertices)


def test_nothing_is_there_where_all_is_on_one_side() -> None:
    for fill in (-1.0, 0.0, 1.0):
        surface = marching_cubes(torch.full((3, 4, 5), fill))
        assert surface.vertices.shape == surface.faces.shape == (0, 3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (2, 3, 66), (1, 1, 64)])
def test_values_that_are_not_finite_are_refused(bad: float, place: tuple[int, int, int]) -> None:
    values = noise(3, 4, 67)
    values[place] = bad
    with pytest.raises(DataError, match="finite"):
        marching_cubes(values)


def test_no_lattices_are_refused() -> None:
    for shape in ((3, 3), (1, 3, 3), (3, 1, 3), (3, 3, 1), (0, 3, 3)):
        with pytest.raises(ShapeError, match="2 points or more"):
            marching_cubes(torch.zeros(shape))
    with pytest.raises(ShapeError, match="floats"):
        marching_cubes(torch.zeros(3, 3, 3, dtype=torch.int64))
    with pytest.raises(ShapeError, match="a slab must be"):
        SlabMesher(3, 3).add(torch.zeros(2, 3, 4))
