"""Meshes of unsigned distances: whole, of the right kind, accurate, and the same however they are asked for."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.errors import DataError, InputError, ShapeError
from polyfield.meshing.dual_mesh import mesh_unsigned
from polyfield.meshing.unsigned_distance import Distance

SHIFT = torch.tensor([0.0137, -0.0071, 0.0093], dtype=torch.float64)
HALF = torch.tensor([0.55, 0.4, 0.3], dtype=torch.float64)


def turn() -> Tensor:
    matrix = torch.randn(3, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return torch.linalg.qr(matrix)[0]


def local(points: Tensor) -> Tensor:
    return (points.double() - SHIFT) @ turn()


def ball(points: Tensor) -> Tensor:
    return (local(points).norm(dim=1) - 0.6).abs()


def torus(points: Tensor) -> Tensor:
    p = local(points)
    return (torch.hypot(torch.hypot(p[:, 0], p[:, 1]) - 0.5, p[:, 2]) - 0.2).abs()


def box(points: Tensor) -> Tensor:
    beyond = local(points).abs() - HALF
    outside = torch.linalg.vector_norm(beyond.clamp(min=1e-30), dim=1)
    return torch.where((beyond > 0).any(1), outside, -beyond.amax(1))


def plate(points: Tensor, half: float = 0.6) -> Tensor:
    p = local(points)
    over = (p[:, :2].abs() - half).clamp(min=1e-30)
    return torch.linalg.vector_norm(torch.cat([over, p[:, 2:]], 1), dim=1)


def crossing(points: Tensor) -> Tensor:
    """Two plates at right angles."""
    p = local(points)
    over = (p.abs() - 0.6).clamp(min=1e-30)
    one = torch.stack([over[:, 0], over[:, 1], p[:, 2]], 1)
    other = torch.stack([over[:, 0], over[:, 2], p[:, 1]], 1)
    return torch.minimum(*(torch.linalg.vector_norm(part, dim=1) for part in (one, other)))


def noisy(distance: Distance, size: float) -> Distance:
    """Never 0, and its gradient some degrees off: the same for the same place."""

    def asked(points: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            exact = distance(points)
            assert isinstance(exact, Tensor)
            (slope,) = torch.autograd.grad(exact.sum(), points)
        way = points.detach().double() @ torch.tensor([[911.0, 1.3e3, 7e2]] * 3).double().tril().T
        off = 0.05 * math.sqrt(2) * (way * 13.7).sin().float()
        slope = torch.nn.functional.normalize(slope, dim=1) + off
        return (exact.detach().square() + size * size).sqrt(), slope

    return asked


def genus(mesh: Mesh) -> int:
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].view(-1, 2).sort(1).values.unique(dim=0)
    return (2 - (len(mesh.faces.unique()) - len(edges) + len(mesh.faces))) // 2


def ends_of(mesh: Mesh, faces: int) -> Tensor:
    """Middles of edges of so many faces or, from 3 on, more, in the shape's own frame."""
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].view(-1, 2).sort(1).values
    edges, count = edges.unique(dim=0, return_counts=True)
    return local(mesh.vertices[edges[count == 1 if faces == 1 else count >= faces]].mean(1))


def off(mesh: Mesh, distance: Distance) -> Tensor:
    found = distance(torch.cat([mesh.vertices, mesh.corners.mean(1)]))
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize(
    ("distance", "handles", "volume"),
    [(ball, 0, 4 / 3 * math.pi * 0.6**3), (torus, 1, 2 * math.pi**2 * 0.5 * 0.04), (box, 0, 0.528)],
)
@pytest.mark.parametrize("depth", [5, 6])
def test_solids_are_whole(
    distance: Distance, handles: int, volume: float, depth: int, noise: bool
) -> None:
    asked = noisy(distance, 0.001) if noise else distance
    found = mesh_unsigned(asked, depth)
    assert found.mesh.edges.watertight
    assert genus(found.mesh) == handles
    cell = 2 / (1 << depth)
    a, b, c = found.mesh.corners.unbind(1)
    # Vertices lie on the surface, chords of a curved one some h^2 / (8 r) inside.
    assert float((a * torch.linalg.cross(b, c)).sum()) / 6 == pytest.approx(
        volume, rel=4 * cell**2 / 0.1
    )
    worst = 0.25 if noise else 0.15  # cells
    assert float(off(found.mesh, distance).max()) < worst * cell


@pytest.mark.parametrize("noise", [False, True])
def test_sheets_end_at_their_rims(noise: bool) -> None:
    cell = 2 / 64
    mesh = mesh_unsigned(noisy(plate, 0.001) if noise else plate, 6).mesh
    assert mesh.edges.nonmanifold == 0
    rim = ends_of(mesh, 1)
    assert float((rim[:, :2].abs().amax(1) - 0.6).abs().max()) < 1.5 * cell
    assert float(mesh.areas.sum()) == pytest.approx(1.44, rel=0.02)
    assert float(off(mesh, plate).max()) < 0.2 * cell


@pytest.mark.parametrize("noise", [False, True])
def test_sheets_cross_along_their_junction_alone(noise: bool) -> None:
    cell = 2 / 64
    mesh = mesh_unsigned(noisy(crossing, 0.001) if noise else crossing, 6).mesh
    junction = ends_of(mesh, 3)
    assert len(junction) > 10
    assert float(junction[:, 1:].norm(dim=1).max()) < 1.5 * cell
    rim = ends_of(mesh, 1)
    at_rim = rim.abs().amax(1) > 0.6 - 1.5 * cell
    assert bool((at_rim | (rim[:, 1:].norm(dim=1) < 1.5 * cell)).all())


def test_the_error_falls_with_the_square_of_the_cell() -> None:
    coarse, fine = (float(off(mesh_unsigned(ball, d).mesh, ball).mean()) for d in (4, 6))
    assert 8 < coarse / fine < 32


def close(one: Mesh, other: Mesh, atol: float) -> None:
    assert torch.equal(one.faces, other.faces)
    torch.testing.assert_close(one.vertices, other.vertices, atol=atol, rtol=0)


def test_however_the_distance_is_given() -> None:
    """With a gradient, as a column, without torch: the same mesh up to float32, or differences in place of slopes."""

    def with_gradient(points: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            found = ball(points)
            return found.detach(), torch.autograd.grad(found.sum(), points)[0]

    def by_numpy(points: Tensor) -> Tensor:
        p = points.detach().double().numpy() - SHIFT.numpy()
        return torch.from_numpy(np.abs(np.linalg.norm(p, axis=1) - 0.6))

    plain = mesh_unsigned(ball, 5).mesh
    close(mesh_unsigned(with_gradient, 5).mesh, plain, 1e-9)
    close(mesh_unsigned(lambda p: ball(p)[:, None], 5).mesh, plain, 1e-9)
    numbers = mesh_unsigned(by_numpy, 5).mesh
    assert numbers.edges.watertight
    assert float(off(numbers, ball).max()) < 0.1 / 16


def test_the_cube_may_lie_anywhere() -> None:
    """Shifted and scaled with the surface: the same vertices up to float32; of a flat quad either diagonal."""
    plain = mesh_unsigned(ball, 5)
    moved = mesh_unsigned(
        lambda p: 8 * ball(p / 8 - 2), 5, low=(8.0, 8.0, 8.0), side=16.0, noise=0.0005
    )
    assert torch.allclose(moved.mesh.vertices, (plain.mesh.vertices + 2) * 8, rtol=0, atol=1e-4)
    assert len(moved.mesh.faces) == len(plain.mesh.faces)
    assert moved.mesh.edges.watertight
    area = float(moved.mesh.areas.sum())
    assert area == pytest.approx(64 * float(plain.mesh.areas.sum()), rel=1e-4)
    assert moved.cells == plain.cells


def test_nothing_depends_on_chance_or_threads() -> None:
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            found.append(mesh_unsigned(crossing, 5).mesh)
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert torch.equal(found[0].faces, other.faces)
        assert torch.equal(found[0].vertices, other.vertices)


@pytest.mark.parametrize("depth", [-1, 2, 12])
def test_the_depth_has_limits(depth: int) -> None:
    with pytest.raises(
        InputError, match=f"depth of the octree must lie in 3 to 11, but is {depth}"
    ):
        mesh_unsigned(ball, depth)


def test_no_surface_is_said() -> None:
    for nothing in (lambda p: p.norm(dim=1) + 5, lambda p: p.norm(dim=1) * 0 + 0.05):
        with pytest.raises(InputError, match="There is no surface in this cube"):
            mesh_unsigned(nothing, 4)


def test_nonsense_is_refused() -> None:
    with pytest.raises(DataError, match="NaN or infinite"):
        mesh_unsigned(lambda p: p[:, 0] * math.nan, 4)
    with pytest.raises(ShapeError, match="distance function must give"):
        mesh_unsigned(lambda p: p, 4)
