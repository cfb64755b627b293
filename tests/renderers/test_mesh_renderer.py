"""Pictures of meshes: closed forms of depth, silhouette, colours and clay."""

import math

import pytest
import torch
import trimesh
from torch import Generator, Tensor

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_paint import Paint
from polyfield.errors import ShapeError
from polyfield.renderers.mesh import MeshRenderer

CLAY = torch.tensor([0.82, 0.80, 0.77])
DOWN = torch.tensor([[0.0, 0.0, -1.0]])


def icosphere(subdivisions: int) -> Mesh:
    shape = trimesh.creation.icosphere(subdivisions)
    return Mesh(torch.tensor(shape.vertices), torch.tensor(shape.faces))


def picture(side: int, reach: float = 1.3) -> Tensor:
    """Origins of rays that look down from z = 3, a square of them; none at a round number."""
    line = torch.linspace(-reach, reach, side) + 0.0123
    x, y = torch.meshgrid(line, line + 0.0217, indexing="ij")
    return torch.stack([x, y, torch.full_like(x, 3.0)], -1).view(-1, 3)


def looking_down(origins: Tensor) -> Tensor:
    return DOWN.expand_as(origins).contiguous()


def square(z: float = 0.0) -> Mesh:
    corners = torch.tensor([[-1, -1, z], [1, -1, z], [1, 1, z], [-1, 1, z]], dtype=torch.float64)
    return Mesh(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]))


def noise(count: int) -> Tensor:
    return torch.rand(count, 3, generator=Generator().manual_seed(1))


def test_a_sphere_in_closed_form() -> None:
    mesh = icosphere(3)
    edges = mesh.corners - mesh.corners.roll(1, 1)
    deep = 1 - math.sqrt(1 - float(edges.norm(dim=2).max()) ** 2 / 3)  # the deepest of the faces
    origins = picture(40)
    background = noise(len(origins))
    seen = MeshRenderer(mesh).render_rays(origins, looking_down(origins), background)
    off = origins[:, :2].double().norm(dim=1)
    hit, missed = off < 1 - deep, off > 1
    assert min(int(hit.sum()), int(missed.sum())) > 300
    assert bool((seen.opacity[hit] == 1).all())
    assert bool((seen.opacity[missed] == 0).all())
    assert set(seen.opacity.tolist()) == {0.0, 1.0}
    assert bool((seen.depth[seen.opacity == 0] == 0).all())
    assert torch.equal(seen.color[seen.opacity == 0], background[seen.opacity == 0])
    assert seen.samples == int(seen.opacity.sum())
    # The faces lie between this sphere and one that is smaller by `deep`; float32 of 3 is right to 2e-7.
    outer, inner = (3 - (r**2 - off[hit] ** 2).sqrt() for r in (1.0, 1 - deep))
    assert bool((seen.depth[hit] >= outer - 1e-6).all())
    assert bool((seen.depth[hit] <= inner + 1e-6).all())


def test_a_tilted_plane_in_closed_form() -> None:
    """z = x / 2: depth, and clay that is as bright as the cosine."""
    mesh = square()
    mesh = Mesh(mesh.vertices + 0.5 * mesh.vertices[:, [2, 2, 0]], mesh.faces)
    origins = picture(20)
    seen = MeshRenderer(mesh).render_rays(origins, looking_down(origins), torch.zeros(400, 3))
    within = (origins[:, :2].abs() < 1).all(1)
    assert torch.equal(seen.opacity > 0, within)
    # float32 of depths of 3; of the cosine and its product with the clay.
    assert float((seen.depth - (3 - origins[:, 0] / 2))[within].abs().max()) < 1e-6
    assert float((seen.color[within] - CLAY / math.sqrt(1.25)).abs().max()) < 1e-6


def test_depth_is_along_the_ray_and_not_along_an_axis() -> None:
    generator = Generator().manual_seed(4)
    targets = 1.8 * torch.rand(200, 3, generator=generator) - 0.9
    targets[:, 2] = 0
    origins = 4 * torch.rand(200, 3, generator=generator) - 2 + torch.tensor([0, 0, 3.0])
    directions = torch.nn.functional.normalize(targets - origins, dim=1)
    seen = MeshRenderer(square()).render_rays(origins, directions, torch.zeros(200, 3))
    # Directions are rounded to float32, distances of 6 at most are too.
    assert float((seen.depth - (targets - origins).norm(dim=1)).abs().max()) < 3e-6


@pytest.mark.parametrize("angle", [0.0, 30.0, 60.0, 80.0, 85.0, 88.0])
@pytest.mark.parametrize("behind", [False, True])
def test_clay_is_lit_from_the_eye_and_never_dark(angle: float, behind: bool) -> None:
    steep = math.radians(angle)
    away = torch.tensor([[math.sin(steep), 0.0, math.cos(steep) * (-1 if behind else 1)]])
    target = torch.tensor([[0.2, 0.1, 0.0]])
    seen = MeshRenderer(square()).render_rays(target + 2 * away, -away, torch.zeros(1, 3))
    # A lamp that grazes leaves 0.15; both sides of a face are lit.
    assert torch.allclose(seen.color[0], CLAY * max(math.cos(steep), 0.15), rtol=0, atol=1e-6)


def test_colours_are_linear_between_the_corners() -> None:
    """Of a linear function of place each face shows just that function."""
    mesh = icosphere(2)
    slope = torch.tensor([[0.2, 0.1, 0.0], [0.0, -0.3, 0.1], [0.1, 0.0, 0.25]])
    colors = 0.5 + mesh.vertices.float() @ slope
    origins = picture(30)
    seen = MeshRenderer(mesh, Paint.of_vertices(mesh, colors)).render_rays(
        origins, looking_down(origins), torch.zeros(len(origins), 3)
    )
    met = seen.opacity > 0
    assert int(met.sum()) > 300
    places = (origins + seen.depth[:, None] * DOWN)[met]
    # Places are known to an ulp of the depth, 3; rays within 1e-5 of a silhouette's edge could be wrong by as much.
    assert float((seen.color[met] - (0.5 + places @ slope)).abs().max()) < 1e-5


def test_a_corner_has_its_own_colour_and_the_middle_the_mean() -> None:
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    triangle = MeshRenderer(Mesh(corners, torch.tensor([[0, 1, 2]])), Paint(torch.eye(3)[None]))
    weights = torch.tensor([[0.98, 0.01, 0.01], [0.01, 0.98, 0.01], [1 / 3, 1 / 3, 1 / 3]])
    origins = weights @ corners.float() + torch.tensor([0, 0, 1.0])
    seen = triangle.render_rays(origins, looking_down(origins), torch.zeros(3, 3))
    assert torch.allclose(seen.color, weights, rtol=0, atol=1e-6)  # roundings of float32


def test_colours_are_shown_as_they_are_from_any_side() -> None:
    colors = torch.tensor([[0.9, 0.4, 0.1]]).repeat(4, 1)
    origins = torch.tensor([[0.1, 0.2, 2.0], [0.1, 0.2, -2.0], [-5.0, 0.2, 0.3]])
    directions = torch.nn.functional.normalize(torch.tensor([[0.1, 0.2, 0.0]]) - origins, dim=1)
    seen = MeshRenderer(square(), Paint.of_vertices(square(), colors)).render_rays(
        origins, directions, torch.zeros(3, 3)
    )
    # Weights that sum to 1, but for an ulp.
    assert torch.allclose(seen.color, colors[:3], rtol=0, atol=3e-7)


def test_what_is_in_front_hides_what_is_behind() -> None:
    both = Mesh(
        torch.cat([square(0.0).vertices, square(1.0).vertices]),
        torch.cat([square().faces, square().faces + 4]),
    )
    colors = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).repeat_interleave(4, 0)
    origins = torch.tensor([[0.3, 0.1, 3.0], [0.3, 0.1, -3.0], [0.3, 0.1, 0.25]])
    directions = DOWN * torch.tensor([[1.0], [-1.0], [1.0]])
    seen = MeshRenderer(both, Paint.of_vertices(both, colors)).render_rays(
        origins, directions, torch.zeros(3, 3)
    )
    assert seen.depth.tolist() == [2.0, 3.0, 0.25]
    assert seen.color.argmax(1).tolist() == [1, 0, 0]


def test_a_background_is_not_written_to() -> None:
    origins = picture(10)
    background = noise(len(origins))
    before = background.clone()
    MeshRenderer(square()).render_rays(origins, looking_down(origins), background)
    assert torch.equal(background, before)


def test_no_rays_and_no_state() -> None:
    renderer, none = MeshRenderer(square()), torch.zeros(0, 3)
    seen = renderer.render_rays(none, none, none)
    assert (seen.color.shape, seen.depth.shape, seen.opacity.shape) == ((0, 3), (0,), (0,))
    assert seen.samples == 0
    assert renderer.state() == {}


def test_paint_of_another_mesh_is_refused() -> None:
    with pytest.raises(ShapeError, match="has 2 faces, but the paint is of 3"):
        MeshRenderer(square(), Paint(torch.zeros(3, 3, 3)))
    with pytest.raises(ShapeError, match=r"colors must be \[4, 3\].*but are \[3, 3\]"):
        Paint.of_vertices(square(), torch.zeros(3, 3))
