"""Drawing shapes from their fields, without a mesh: rays go forward by the distance to the surface.

A learnt distance is off by a little: it is not trusted to the end, and where a ray has come out on the other side, the
surface is looked for between its last two places. An occupancy tells no distance: there rays go by small steps.

See: Hart (1996), "Sphere tracing".
"""

import torch
from jaxtyping import Float
from torch import Tensor

from polyfield.config import from_json
from polyfield.fields.model import Model
from polyfield.fields.signal import Solid
from polyfield.renderers.clay import clay
from polyfield.renderers.rendered import Rendered

__all__ = ["ShapeRenderer"]

# All lengths are in the cube [-1, 1]^3 that the field is defined on.
_SHARE = 0.9  # of a distance that a ray goes forward
_SHARE_UNSIGNED = 0.6  # of one that does not tell when the surface has been passed
_ARRIVED = 1e-3  # from the surface
_ARRIVED_UNSIGNED = 2e-3  # learnt unsigned distances are nowhere quite 0
_STEP = 1 / 128  # through an occupancy
_MOST_STEPS = 512
_HALVINGS = 8
_APART = (
    4e-3  # of the places that a normal is made of: finer details of a learnt distance are noise
)
_CORNERS = ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1))  # of a tetrahedron


class ShapeRenderer:
    """Draws the surface of a shape as clay, in the coordinates of the mesh that the shape was fitted to.

    Args:
        model: Of kind "sdf", "udf" or "occupancy".
    """

    def __init__(self, model: Model) -> None:
        self._field, self._kind = model.module, model.kind
        self._solid = from_json(Solid, model.config["domain"], "domain")

    @torch.no_grad()
    def render_rays(
        self,
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        background: Float[Tensor, "R 3"],
    ) -> Rendered:
        """Draw rays; see `Renderer`."""
        start = (origins - torch.tensor(self._solid.center)) * self._solid.scale
        place, hit, samples = self._first(start, directions)
        rows = hit.nonzero()[:, 0]
        color = background.clone()
        points = start[rows] + place[rows, None] * directions[rows]
        color[rows] = clay(self._normals(points, directions[rows]), directions[rows])
        return Rendered(
            color=color,
            depth=torch.where(hit, place / self._solid.scale, 0.0),
            opacity=hit.float(),
            samples=samples + len(_CORNERS) * len(rows),
        )

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def _height(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """How far outside points are: a distance, or how much less than a half is occupied."""
        value: Tensor = self._field(((points + 1.0) / 2.0).clamp(0.0, 1.0))[:, 0]
        return 0.5 - value if self._kind == "occupancy" else value

    def _first(self, start: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, int]:
        """Where rays meet the surface, whether they do, and how many values were asked for."""
        place, leave = _through_cube(start, directions)
        hit = torch.zeros(len(start), dtype=torch.bool)
        samples, going = 0, (leave > place).nonzero()[:, 0]
        before = torch.zeros(len(start))  # how far the last step went
        side = torch.zeros(len(start))  # that a ray is on: 1 outside, -1 inside
        arrived, share = _ARRIVED, _SHARE
        if self._kind == "udf":
            arrived, share = _ARRIVED_UNSIGNED, _SHARE_UNSIGNED
        for _ in range(_MOST_STEPS):
            if len(going) == 0:
                break
            at = start[going] + place[going, None] * directions[going]
            height = self._height(at)
            samples += len(going)
            here = torch.where(height < 0, -1.0, 1.0)
            side[going] = torch.where(side[going] == 0, here, side[going])
            passed = here != side[going]
            near = height.abs() < arrived if self._kind != "occupancy" else torch.zeros_like(passed)
            self._turn_back(start, directions, place, before, side, going[passed])
            samples += _HALVINGS * int(passed.sum())
            hit[going[passed | near]] = True
            step = torch.full_like(height, _STEP)
            if self._kind != "occupancy":
                step = share * height.abs()
            on = ~(passed | near)
            going, step = going[on], step[on]
            place[going] += step
            before[going] = step
            going = going[place[going] < leave[going]]
        return place, hit, samples

    def _turn_back(
        self,
        start: Tensor,
        directions: Tensor,
        place: Tensor,
        before: Tensor,
        side: Tensor,
        rays: Tensor,
    ) -> None:
        """Move rays that have passed the surface in their last step to where they did."""
        low, high = place[rays] - before[rays], place[rays].clone()
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            height = self._height(start[rays] + middle[:, None] * directions[rays])
            same = torch.where(height < 0, -1.0, 1.0) == side[rays]
            low, high = torch.where(same, middle, low), torch.where(same, high, middle)
        place[rays] = high

    def _normals(self, points: Tensor, directions: Tensor) -> Tensor:
        """Unit normals, from values at the corners of a tetrahedron."""
        # On an unsigned surface itself all directions lead up: look just before it.
        back = 5 * _APART if self._kind == "udf" else 0.0
        middle = points - back * directions
        total = torch.zeros_like(points)
        for corner in torch.tensor(_CORNERS, dtype=torch.float32):
            total += corner * self._height(middle + _APART * corner)[:, None]
        return torch.nn.functional.normalize(total, dim=1)


def _through_cube(start: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave [-1, 1]^3, from 0 on; those that miss it leave before they enter."""
    slope = 1.0 / torch.where(directions.abs() < 1e-9, 1e-9, directions)
    one, other = (-1.0 - start) * slope, (1.0 - start) * slope
    enter = torch.minimum(one, other).amax(1).clamp(min=0.0)
    return enter, torch.maximum(one, other).amin(1)
