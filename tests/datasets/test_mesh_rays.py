"""Where rays meet meshes: closed forms, laws, and the tree against all faces one by one."""

import math

import pytest
import torch
import trimesh
from torch import Generator, Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_file import read_mesh
from polyfield.datasets.mesh_rays import MeshRays, first_hits_reference
from polyfield.errors import ShapeError

# How far beside a triangle a ray still meets it, in weights of its corners; twice that, for rounding to float32.
BESIDE = 2e-5


def made(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(torch.tensor(shape.vertices), torch.tensor(shape.faces))


def soup(count: int, seed: int = 0) -> Mesh:
    """Triangles anywhere in a cube of side 2, half as large as it."""
    generator = Generator().manual_seed(seed)
    middles = 2 * torch.rand(count, 1, 3, generator=generator).double() - 1
    corners = middles + torch.rand(count, 3, 3, generator=generator).double() - 0.5
    return Mesh(corners.reshape(-1, 3), torch.arange(3 * count).view(-1, 3))


def unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors.double(), dim=1).float()


def rays(count: int, seed: int = 7, away: float = 3.0) -> tuple[Tensor, Tensor]:
    """From `away`, aimed at a cube of side 2."""
    generator = Generator().manual_seed(seed)
    directions = unit(torch.randn(count, 3, generator=generator))
    return 2 * torch.rand(count, 3, generator=generator) - 1 - away * directions, directions


BOX, SPHERE = made(trimesh.creation.box((2.0, 2, 2))), made(trimesh.creation.icosphere(3))
TORUS = made(trimesh.creation.torus(1.0, 0.4))


def assert_as_the_reference(mesh: Mesh, origins: Tensor, directions: Tensor) -> None:
    found = MeshRays(mesh).first_hits(origins, directions)
    distance, face, weights = first_hits_reference(mesh, origins.double(), directions.double())
    same = found.face == face
    # A float32 of what float64 computed, from where the ray enters the box around the mesh.
    there = same & (face >= 0)
    size = float(mesh.vertices.abs().max())
    error = (found.distance[there] - distance[there]).abs()
    assert bool((error <= 2e-7 * (size + distance[there])).all())
    assert float((found.weights[there] - weights[there]).abs().max()) < 1e-6
    assert bool((found.weights[same & (face < 0)] == 0).all())
    # Another face only beside an edge, or where two are met together, as close as single precision tells. Rays that
    # come as near to one as that are few.
    other = ~same
    assert int(other.sum()) <= len(origins) // 50
    by_edge = torch.minimum(found.weights.double().amin(1), weights.amin(1)) < BESIDE
    tied = (found.distance - distance).abs() < 1e-5 * (size + distance)
    assert bool((by_edge | tied)[other].all())


@pytest.mark.parametrize("faces", [1, 2, 15, 16, 17, 100, 257, 1000])
def test_agrees_with_the_reference_on_soups(faces: int) -> None:
    mesh = soup(faces)
    for away in (0.0, 3.0, 300.0):
        assert_as_the_reference(mesh, *rays(400, seed=faces, away=away))


@pytest.mark.parametrize("mesh", [BOX, SPHERE, TORUS], ids=["box", "sphere", "torus"])
def test_agrees_with_the_reference_on_closed_surfaces(mesh: Mesh) -> None:
    assert_as_the_reference(mesh, *rays(500))
    assert_as_the_reference(mesh, *rays(500, away=0.0))


@pytest.mark.parametrize("name", ["fertility.off", "tshirt.obj", "truck.obj"])
def test_real_meshes_agree_with_the_reference(data_dir, name: str) -> None:
    mesh, _ = read_mesh(data_dir / "meshes" / name).placed()
    assert_as_the_reference(mesh, *rays(100))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_size_and_place_change_nothing_else(scale: float) -> None:
    origins, directions = rays(300)
    moved = Mesh((TORUS.vertices + 4.0) * scale, TORUS.faces)
    assert_as_the_reference(moved, (origins + 4.0) * scale, directions)


def test_what_comes_back_is_one_place() -> None:
    """The distance along the ray and the weights of the corners name the same point."""
    origins, directions = rays(2000)
    found = MeshRays(TORUS).first_hits(origins, directions)
    met = found.face >= 0
    assert 500 < int(met.sum()) < 2000
    assert torch.equal(met, found.distance.isfinite())
    assert bool((found.distance[~met] == math.inf).all())
    weights = found.weights[met].double()
    assert float(weights.min()) >= 0
    # Three float32 numbers that are rounded apart: an ulp or two of 1.
    assert float((weights.sum(1) - 1).abs().max()) < 3e-7
    places = (TORUS.corners[found.face[met]] * weights[:, :, None]).sum(1)
    along = origins[met] + found.distance[met, None].double() * directions[met]
    # A ray that passes beside a triangle by 1e-5 of its edges, of 0.5 at most, is told to be on its edge; from far
    # behind 2e-7 of the distance, 4.
    assert float((places - along).norm(dim=1).max()) < 1e-5


def test_a_ray_that_begins_inside_meets_the_wall_before_it() -> None:
    generator = Generator().manual_seed(2)
    origins = 1.8 * torch.rand(1000, 3, generator=generator) - 0.9
    directions = unit(torch.randn(1000, 3, generator=generator))
    found = MeshRays(BOX).first_hits(origins, directions)
    walls = (directions.double().sign() - origins) / directions
    truth = walls.amin(1)
    # float32 of a distance of at most 4: half a unit in the last place, and one for where it begins.
    assert float((found.distance - truth).abs().max()) < 4e-7
    assert torch.equal(
        BOX.normals_of(found.face).abs().argmax(1), walls.argmin(1)
    )  # both sides of a face count


def test_what_lies_behind_or_beside_is_not_met() -> None:
    outwards = unit(torch.randn(500, 3, generator=Generator().manual_seed(5)))
    beside = unit(torch.linalg.cross(outwards, outwards.roll(1, 0)))
    for directions in (outwards, beside):
        found = MeshRays(SPHERE).first_hits(1.5 * outwards, directions)
        assert bool((found.face == -1).all())
        assert bool((found.distance == math.inf).all())
        assert bool((found.weights == 0).all())


def test_no_ray_slips_between_neighbours() -> None:
    """From within a closed surface, to each vertex, and to places on each edge."""
    mesh = made(trimesh.creation.icosphere(2))
    ends = mesh.vertices[mesh.faces.roll(1, 1).flatten()], mesh.vertices[mesh.faces.flatten()]
    targets = torch.cat([mesh.vertices, *(torch.lerp(*ends, at) for at in (0.5, 0.1, 0.77))])
    for middle in ([0.0, 0.0, 0.0], [0.5, 0.25, 0.125], [0.1, -0.2, 0.7], [0.0, 0.6, 0.0]):
        origins = torch.tensor(middle).expand_as(targets).contiguous()
        found = MeshRays(mesh).first_hits(origins, unit(targets - origins))
        assert bool((found.face >= 0).all())


def grid(side: int) -> tuple[Mesh, Tensor]:
    """A square of side 2 cut into triangles, and targets within it: vertices, and places on edges."""
    line = torch.linspace(-1, 1, side, dtype=torch.float64)
    x, y = torch.meshgrid(line, line + 0.1 * line.sin(), indexing="ij")
    vertices = torch.stack([x, y, torch.zeros_like(x)], -1).view(-1, 3)
    i = torch.arange(side * side).view(side, side)
    a, b, c, d = (part.flatten() for part in (i[:-1, :-1], i[1:, :-1], i[1:, 1:], i[:-1, 1:]))
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])
    edges = torch.cat([torch.stack([i[1:-1, :-1].flatten(), i[1:-1, 1:].flatten()], 1)])
    edges = torch.cat([edges, torch.stack([i[:-1, 1:-1].flatten(), i[1:, 1:-1].flatten()], 1)])
    edges = torch.cat([edges, torch.stack([a, c], 1)])
    starts, ends = vertices[edges].unbind(1)
    places = [torch.lerp(starts, ends, at) for at in (0.3, 0.5, 0.77)]
    return Mesh(vertices, faces), torch.cat([vertices[i[1:-1, 1:-1].flatten()], *places])


def test_no_ray_slips_through_a_plane_at_its_edges() -> None:
    mesh, targets = grid(12)
    generator = Generator().manual_seed(3)
    for tilted in (False, True):
        directions = torch.tensor([[0.0, 0, -1]]).expand_as(targets).contiguous()
        if tilted:
            directions = unit(directions + torch.randn(len(targets), 3, generator=generator) / 3)
        origins = (targets - 3 * directions.double()).float()
        found = MeshRays(mesh).first_hits(origins, directions)
        assert bool((found.face >= 0).all())


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_ray_on_the_rim_meets_it(axis: int, side: float) -> None:
    """Also where that is the side of a box, along which the ray runs."""
    corners = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]).double()
    square = MeshRays(Mesh(corners, torch.tensor([[0, 1, 2], [0, 2, 3]])))
    origins = torch.tensor([[0.3, 0.3, 3.0]]).repeat(3, 1)
    origins[:, axis] = side * (1 + torch.tensor([-1e-3, 0.0, 1e-3]))
    found = square.first_hits(origins, torch.tensor([[0.0, 0, -1]]).repeat(3, 1))
    assert (found.face >= 0).tolist() == [True, True, False]


def test_faces_without_area_are_never_met() -> None:
    flat = torch.stack([TORUS.faces[:, 0], TORUS.faces[:, 1], TORUS.faces[:, 0]], 1)
    line = torch.stack([TORUS.faces[:, 2]] * 3, 1)
    mixed = Mesh(TORUS.vertices, torch.cat([flat, TORUS.faces, line]))
    origins, directions = rays(500)
    plain, found = (MeshRays(mesh).first_hits(origins, directions) for mesh in (TORUS, mixed))
    met = plain.face >= 0
    assert torch.equal(found.face >= 0, met)
    assert bool((mixed.areas[found.face[met]] > 0).all())
    # Of two neighbours at an edge either may be the one: the rounding of float32.
    assert torch.allclose(found.distance, plain.distance, rtol=1e-6, atol=0)


def test_of_faces_at_one_place_the_first_is_met() -> None:
    count = len(TORUS.faces)
    double = Mesh(TORUS.vertices, torch.cat([TORUS.faces, TORUS.faces]))
    origins, directions = rays(500)
    found = MeshRays(double).first_hits(origins, directions)
    distance, face, _ = first_hits_reference(TORUS, origins.double(), directions.double())
    assert bool((found.face < count).all())
    assert torch.equal(found.face >= 0, face >= 0)
    # As in assert_as_the_reference, in float32 at a distance of at most 6.
    assert torch.allclose(found.distance, distance.float(), rtol=1e-6, atol=0)


def test_order_and_threads_change_no_bit() -> None:
    origins, directions = rays(2000)
    shuffled = torch.randperm(2000, generator=Generator().manual_seed(3))
    field = MeshRays(soup(200))
    torch.set_num_threads(1)
    first = field.first_hits(origins, directions)
    torch.set_num_threads(2)
    again = field.first_hits(origins, directions)
    mixed = field.first_hits(origins[shuffled], directions[shuffled])
    for a, b, c in zip(first, again, mixed, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a[shuffled], c)


def test_rays_that_are_not_finite_meet_nothing_and_spoil_nothing() -> None:
    origins, directions = rays(300, away=0.0)
    plain = MeshRays(SPHERE).first_hits(origins, directions)
    lost = torch.zeros(300, dtype=torch.bool)
    for place, bad in enumerate((math.nan, math.inf, -math.inf)):
        origins[3 + place, place] = bad
        directions[100 + place, place] = bad
        lost[[3 + place, 100 + place]] = True
    directions[200], lost[200] = 0.0, True  # a ray that goes nowhere
    found = MeshRays(SPHERE).first_hits(origins, directions)
    assert bool((found.face[lost] == -1).all())
    assert bool((found.distance[lost] == math.inf).all())
    assert bool((found.weights[lost] == 0).all())
    for one, other in zip(plain, found, strict=True):
        assert torch.equal(one[~lost], other[~lost])


def test_no_rays_give_nothing() -> None:
    found = MeshRays(BOX).first_hits(torch.zeros(0, 3), torch.zeros(0, 3))
    assert (found.distance.shape, found.face.shape, found.weights.shape) == ((0,), (0,), (0, 3))
    assert found.face.dtype == torch.int64


def test_the_mesh_is_copied() -> None:
    mesh = Mesh(BOX.vertices.clone(), BOX.faces.clone())
    field = MeshRays(mesh)
    mesh.vertices.mul_(100)
    found = field.first_hits(torch.tensor([[0.2, 0.3, 5.0]]), torch.tensor([[0.0, 0.0, -1.0]]))
    assert found.distance.tolist() == [4.0]


def test_views_that_are_not_contiguous_are_read_as_they_are() -> None:
    origins, directions = rays(50)
    field = MeshRays(TORUS)
    whole = field.first_hits(origins, directions)
    turned = field.first_hits(origins.T.contiguous().T, directions.T.contiguous().T)
    assert all(torch.equal(a, b) for a, b in zip(whole, turned, strict=True))


def test_messages() -> None:
    field, good = MeshRays(BOX), torch.zeros(2, 3)
    for bad in (torch.zeros(3), torch.zeros(2, 2), good.double(), torch.zeros(2, 3).long()):
        with pytest.raises(ShapeError, match=r"origins must be \[R, 3\] of float32 on the CPU"):
            field.first_hits(bad, good)
    for bad in (torch.zeros(1, 3), good.double()):
        with pytest.raises(ShapeError, match=r"directions must be \[R, 3\] of float32 on the CPU"):
            field.first_hits(good, bad)
