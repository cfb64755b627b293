"""What there is to mesh in a model: a function of space, where to look, and at which level its surface lies.

Extraction knows a model only through this. `register_surface` adds a kind of model.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from polyfield.config import from_json
from polyfield.errors import ConfigError, InputError
from polyfield.fields.model import Model, require_pointwise
from polyfield.fields.signal import Solid
from polyfield.meshing.density_level import density_level
from polyfield.meshing.lattice import Lattice
from polyfield.renderers.occupancy import OccupancyGrid
from polyfield.renderers.volume import VolumeRenderer

__all__ = ["DensitySurface", "ShapeSurface", "Surface", "register_surface", "surface_of"]

_LEVELS = {"sdf": (0.0, True), "occupancy": (0.5, False)}


RaySource = Callable[[], tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"]]]


class Surface(Protocol):
    """What extraction needs of a model; everything in the model's own coordinates."""

    below: bool
    """Whether what is inside lies below the level."""

    def level(self, rays: RaySource) -> float:
        """Say at which level the surface lies.

        Args:
            rays: Gives rays from where the model is looked at, to those who need any.

        Raises:
            DataError: There is no surface to be seen.
        """
        ...

    @property
    def box(self) -> tuple[Float64[Tensor, "3"], Float64[Tensor, "3"]]:
        """Low and high corner of where there may be a surface."""
        ...

    @property
    def data_from_model(self) -> Float64[Tensor, "4 4"]:
        """From the model's coordinates to those of the data that it was made from."""
        ...

    def values(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """Ask the function."""
        ...

    def wanted(self, lattice: Lattice) -> Callable[[slice], Bool[Tensor, "L Y Z"]] | None:
        """Say which points of a lattice are worth asking; all others count as 0. None: all."""
        ...

    def colors(
        self, points: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"], reach: float
    ) -> Float[Tensor, "N 3"] | None:
        """Give the colour, sRGB in [0, 1], of places on the surface seen along their normals; None: it has none.

        Args:
            points: On the surface.
            normals: Unit vectors outwards.
            reach: How far off the surface these places may be.
        """
        ...


class DensitySurface:
    """The surface of a radiance field: where its density crosses a level.

    Args:
        model: Of kind "radiance".

    Raises:
        InputError: Its field has values on whole rays only.
    """

    below = False

    def __init__(self, model: Model) -> None:
        require_pointwise(model, "Mesh extraction")
        self.renderer = VolumeRenderer(model)
        world_from_data = model.capture.get("world_from_data", torch.eye(4))
        self.data_from_model = torch.linalg.inv(world_from_data.double())

    def level(self, rays: RaySource) -> float:
        """Choose the density at which the surface lies where pictures show it: see `density_level`."""
        return density_level(self.renderer, *rays())

    @property
    def box(self) -> tuple[Float64[Tensor, "3"], Float64[Tensor, "3"]]:
        """Around the occupied cells of the box that deserves the finest detail, a cell more to each side."""
        grid = self.renderer.grid
        n = grid.resolution
        cells = (grid.distance[0] == 0).view(n, n, n).nonzero()
        low, high = (cells.amin(0) - 1).clamp(min=0), (cells.amax(0) + 2).clamp(max=n)
        corner, side = grid.box[0].double(), (grid.box[1] - grid.box[0]).double() / n
        return corner + low * side, corner + high * side

    @torch.no_grad()
    def values(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """Give densities per world length."""
        return self.renderer.field.density(points)[0]

    def wanted(self, lattice: Lattice) -> Callable[[slice], Bool[Tensor, "L Y Z"]]:
        """Say which points lie in occupied cells, or beside one: nothing is drawn elsewhere either."""
        grid = self.renderer.grid
        levels = [_Cells(grid, level, lattice) for level in range(grid.levels)]

        def there(layers: slice) -> Tensor:
            found = levels[0].near(layers)
            for cells in levels[1:]:
                found |= cells.near(layers)
            return found

        return there

    def colors(
        self, points: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"], reach: float
    ) -> Float[Tensor, "N 3"]:
        """Give what rays see that come along the normals from just outside; black where that is nothing."""
        config = self.renderer.config
        origins = points + (config.near + reach) * normals
        seen = self.renderer.render_rays(origins, -normals, torch.zeros_like(points))
        opacity = seen.opacity[:, None]
        return (seen.color / opacity.clamp(min=1e-3)).clamp(0.0, 1.0)


class _Cells:
    """The cells of one level of an occupancy grid that are occupied or beside an occupied one, as a lattice sees them.

    Args:
        grid: Whose.
        level: Of its cascades.
        lattice: Which points will be asked for.
    """

    def __init__(self, grid: OccupancyGrid, level: int, lattice: Lattice) -> None:
        n = grid.resolution
        near = torch.zeros(n + 2, n + 2, n + 2, dtype=torch.bool)  # one around: nothing is outside
        near[1:-1, 1:-1, 1:-1] = (grid.distance[level] == 0).view(n, n, n)
        for axis in range(3):
            near = near | near.roll(1, axis) | near.roll(-1, axis)
        self._near = near
        self._index = list[Tensor]()
        for axis in range(3):
            q = (lattice.coordinates(axis) - float(grid.center[axis])) / float(grid.half_size[axis])
            place = (q * 0.5**level + 1.0) * (0.5 * n)
            self._index.append((place.floor() + 1).clamp(0, n + 1).long())

    def near(self, layers: slice) -> Bool[Tensor, "L Y Z"]:
        """Say of the points of some layers whether they lie in such cells."""
        x, y, z = self._index
        return self._near[x[layers]][:, y][:, :, z]


class ShapeSurface:
    """The surface of a shape: where its signed distance is 0, or its occupancy a half.

    Args:
        model: Of kind "sdf" or "occupancy".
    """

    def __init__(self, model: Model) -> None:
        self._level, self.below = _LEVELS[model.kind]
        self._field = model.module
        solid = from_json(Solid, model.config["domain"], "domain")
        self.data_from_model = torch.eye(4, dtype=torch.float64)
        self.data_from_model[:3, :3] /= solid.scale
        self.data_from_model[:3, 3] = torch.tensor(solid.center, dtype=torch.float64)

    def level(self, rays: RaySource) -> float:
        """Give that of the kind."""
        del rays
        return self._level

    @property
    def box(self) -> tuple[Float64[Tensor, "3"], Float64[Tensor, "3"]]:
        """The cube that the field is defined on."""
        corner = torch.ones(3, dtype=torch.float64)
        return -corner, corner

    @torch.no_grad()
    def values(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """Give distances, or occupancies."""
        result: Tensor = self._field((points + 1.0) / 2.0)[:, 0]
        return result

    def wanted(self, lattice: Lattice) -> None:
        """Ask all points: no cell is known to be empty."""
        del lattice

    def colors(
        self, points: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"], reach: float
    ) -> None:
        """Give none."""
        del points, normals, reach


_SURFACES: dict[str, Callable[[Model], Surface]] = {
    "radiance": DensitySurface,
    "sdf": ShapeSurface,
    "occupancy": ShapeSurface,
}


def register_surface(kind: str, make: Callable[[Model], Surface]) -> None:
    """Say what there is to mesh in a kind of model.

    Raises:
        ConfigError: It has a surface already.
    """
    if kind in _SURFACES:
        raise ConfigError(f"Models of kind {kind!r} have a surface already.")
    _SURFACES[kind] = make


def surface_of(model: Model) -> Surface:
    """Give what there is to mesh in a model.

    Raises:
        InputError: Nothing: it is an image, say, or has values on whole rays only.
    """
    if model.kind not in _SURFACES:
        raise InputError(
            f"There is no surface in a field of kind {model.kind!r}; only {', '.join(_SURFACES)} have one."
        )
    return _SURFACES[model.kind](model)
