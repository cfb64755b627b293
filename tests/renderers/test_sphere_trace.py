"""Pictures of shapes from their fields: closed forms for a ball, of each kind, and agreement with its mesh."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from torch import Tensor, nn

from polyfield.datasets.mesh import Mesh
from polyfield.datasets.mesh_export import write_mesh
from polyfield.errors import InputError
from polyfield.fields.model import Model
from polyfield.renderers.clay import clay
from polyfield.renderers.sphere_trace import ShapeRenderer
from polyfield.training.drawable import drawable_model
from polyfield.training.rendering import render

CENTER, SCALE, RADIUS = torch.tensor([3.0, -1.0, 2.0]), 0.5, 0.6  # the radius is that in the cube
KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "sdf": lambda off: off,
    "udf": lambda off: off.abs(),
    "occupancy": lambda off: torch.sigmoid(-40 * off),
}


class Ball(nn.Module):
    """A distance that is wrong by a factor, as learnt ones are."""

    def __init__(self, kind: str, factor: float = 1.0) -> None:
        super().__init__()
        self.kind, self.factor = kind, factor

    def forward(self, unit: Tensor) -> Tensor:
        off = (2 * unit - 1).norm(dim=1, keepdim=True) - RADIUS
        return KINDS[self.kind](self.factor * off)


def model(kind: str, factor: float = 1.0) -> Model:
    domain = {"center": CENTER.tolist(), "scale": SCALE}
    return Model(kind, {"domain": domain}, Ball(kind, factor))


def rays(count: int = 4000) -> tuple[Tensor, Tensor]:
    """From a ball around, to places of the cube, in the mesh's coordinates."""
    generator = torch.Generator().manual_seed(2)
    origins = CENTER + 8 * nn.functional.normalize(
        torch.randn(count, 3, generator=generator), dim=1
    )
    targets = CENTER + (2 * torch.rand(count, 3, generator=generator) - 1) / SCALE
    return origins, nn.functional.normalize(targets - origins, dim=1)


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.6])
@pytest.mark.parametrize("kind", KINDS)
def test_a_ball_in_closed_form(kind: str, factor: float) -> None:
    origins, directions = rays()
    background = torch.rand(len(origins), 3, generator=torch.Generator().manual_seed(5))
    seen = ShapeRenderer(model(kind, factor)).render_rays(origins, directions, background)
    to, radius = CENTER - origins, RADIUS / SCALE
    middle = (to * directions).sum(1)
    past = (to.square().sum(1) - middle.square()).clamp(min=0).sqrt()
    # Rays stop before the surface, or step over its rim.
    surely, never = past < 0.97 * radius, past > 1.02 * radius
    assert min(int(surely.sum()), int(never.sum())) > 300
    assert bool((seen.opacity[surely] == 1).all())
    assert bool((seen.opacity[never] == 0).all())
    assert torch.equal(seen.color[never], background[never])
    depth = middle - (radius**2 - past.square()).clamp(min=0).sqrt()
    # 2e-3 of the cube, told by a distance of 0.7 of its size, seen at 14 degrees at least.
    steep = past < 0.9 * radius
    assert float((seen.depth - depth)[steep].abs().max()) < 2e-3 / 0.7 / 0.43 / SCALE
    places = origins + seen.depth[:, None] * directions
    normals = nn.functional.normalize(places - CENTER, dim=1)
    # Normals of unsigned distances are told 0.02 of the cube before the surface: 0.03 of the ball's angle.
    off = (seen.color - clay(normals, directions))[steep].abs()
    assert float(off.max()) < 0.03


def test_rays_that_begin_inside_see_the_surface() -> None:
    directions = nn.functional.normalize(torch.randn(100, 3), dim=1)
    seen = ShapeRenderer(model("sdf")).render_rays(
        CENTER.expand(100, 3), directions, torch.zeros(100, 3)
    )
    assert bool((seen.opacity == 1).all())
    assert float((seen.depth - RADIUS / SCALE).abs().max()) < 1e-3 / SCALE


def test_a_field_and_its_mesh_look_alike(tmp_path: Path) -> None:
    """Along the same orbit, by the command's own way: most of the pixels differ by noise of the normals only."""
    drawn = drawable_model(model("sdf"), None)
    shape = trimesh.creation.icosphere(5, radius=RADIUS / SCALE)
    mesh = Mesh(torch.tensor(shape.vertices) + CENTER.double(), torch.tensor(shape.faces))
    write_mesh(tmp_path / "ball.ply", mesh)
    out = render(tmp_path / "ball.ply", path="orbit", out=tmp_path / "frames", frames=2, width=64)
    assert sorted(file.name for file in out.iterdir()) == ["00000.png", "00001.png"]
    picture = np.asarray(Image.open(out / "00001.png")).astype(float) / 255
    assert picture.shape == (64, 64, 3)
    covered = (picture.mean(2) < 0.98).mean()
    # The ring sees the ball around the box: 40 degrees; the box's half diagonal is sqrt(3) radii.
    tangent = np.tan(np.arcsin(np.sin(np.radians(20)) / np.sqrt(3)))
    assert abs(covered - np.pi / 4 * (tangent / np.tan(np.radians(20))) ** 2) < 0.03
    assert drawn.test == []
    assert len(drawn.cameras) > 2


def test_wishes_that_do_not_fit_are_told(tmp_path: Path) -> None:
    write_mesh(tmp_path / "a.ply", Mesh(torch.eye(3).double(), torch.tensor([[0, 1, 2]])))
    with pytest.raises(InputError, match="no test views"):
        render(tmp_path / "a.ply", path="test", out=tmp_path / "o")
    with pytest.raises(InputError, match="x, y or z"):
        render(tmp_path / "a.ply", path="orbit", out=tmp_path / "o", up="w")
    with pytest.raises(InputError, match="exclude each other"):
        render(tmp_path / "a.ply", path="orbit", out=tmp_path / "o", up="y", cameras=tmp_path)
    with pytest.raises(InputError, match="for mesh files"):
        render(tmp_path / "run", path="orbit", out=tmp_path / "o", cameras=tmp_path)
    assert not (tmp_path / "o").exists()
