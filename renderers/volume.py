"""Drawing radiance fields: march the occupied cells, evaluate the field, composite."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from polyfield.config import from_json, to_json
from polyfield.errors import ConfigError, DataError
from polyfield.fields.model import Model
from polyfield.fields.radiance import RadianceField
from polyfield.renderers.composite import composite
from polyfield.renderers.march import MarchSettings
from polyfield.renderers.occupancy import OccupancyGrid
from polyfield.renderers.rendered import Rendered
from polyfield.renderers.trace import Rays, Traced, trace
from polyfield.renderers.trace_whole import trace_whole

if TYPE_CHECKING:
    from polyfield.datasets.scene import Scene

__all__ = ["VolumeConfig", "VolumeRenderer"]

# Rays drawn at once: what lies along them is in memory, 44 bytes for each sample that can be seen.
_CHUNK = 1 << 14
_BITS = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8)  # of a byte, lowest first


@dataclass(frozen=True)
class VolumeConfig:
    """Where and how finely rays are sampled.

    Attributes:
        low, high: Corners of the box that deserves the finest detail, in world units.
        levels: Cascades: level k of the occupancy grid covers that box scaled by 2^k about its centre.
        resolution: Cells per axis and level.
        steps: Samples along the finest box's diagonal.
        cone: How much the step grows per distance; 0: it does not.
        near, far: Distances from the camera between which there may be something.
        min_transmittance: What is behind this is not drawn.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    levels: int = 1
    resolution: int = 128
    steps: int = 1024
    cone: float = 0.0
    near: float = 0.0
    far: float = 1e9
    min_transmittance: float = 1e-4

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= 8:
            raise ConfigError(f"render.levels must be in 1..8, but is {self.levels}.")
        if not 1 <= self.steps <= 65536:
            raise ConfigError(f"render.steps must be in 1..65536, but is {self.steps}.")
        if not 0 <= self.cone < 1:
            raise ConfigError(f"render.cone must be in [0, 1), but is {self.cone}.")
        if not 0 <= self.near < self.far:
            raise ConfigError(
                f"render.near must be at least 0 and below far, but they are {self.near}, {self.far}."
            )

    @property
    def step(self) -> float:
        """Length of the smallest step, in world units."""
        sides = (b - a for a, b in zip(self.low, self.high, strict=True))
        return float(sum(side**2 for side in sides) ** 0.5) / self.steps


class VolumeRenderer:
    """Draws a radiance model, and keeps the occupancy grid that makes it quick.

    Args:
        model: Of kind "radiance"; `config["render"]` is a `VolumeConfig`, `renderer_state` the grid, or empty for a
            grid that is occupied everywhere.
    """

    def __init__(self, model: Model) -> None:
        if not isinstance(model.module, RadianceField):
            raise ConfigError(f"A volume renderer draws radiance fields, not {model.kind} models.")
        self.field = model.module
        self.config = from_json(VolumeConfig, model.config.get("render", {}), "render")
        model.config["render"] = to_json(self.config)
        self.grid = OccupancyGrid(
            self.config.low,
            self.config.high,
            levels=self.config.levels,
            resolution=self.config.resolution,
        )
        if model.renderer_state:
            self.load_state(model.renderer_state)

    def trace(
        self,
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        min_transmittance: float,
        jitter: Float[Tensor, " R"] | None = None,
        coarse: float = 1.0,
        keep_encoded: bool = False,
    ) -> Traced:
        """Find the samples of rays that can be seen, their densities and colours. No gradient flows.

        Of a field that is not pointwise, all samples in occupied cells.

        Args:
            origins, directions: At most 65,536 rays for a field without a native form; directions are unit vectors.
            min_transmittance: What is behind this is not looked at.
            jitter: Shift of each ray's samples in [0, 1) steps; None: samples in the middle of their steps.
            coarse: Factor on all steps.
            keep_encoded: Whether what the encoder gives is wanted too.
        """
        config = self.config
        settings = MarchSettings(config.step * coarse, config.cone * coarse)
        rays = Rays(origins, directions, config.near, config.far, jitter)
        if not self.field.pointwise:
            return trace_whole(rays, self.grid, settings, self.field)
        return trace(
            rays, self.grid, settings, self.field, min_transmittance, keep_encoded=keep_encoded
        )

    @torch.no_grad()
    def render_rays(
        self,
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        background: Float[Tensor, "R 3"],
    ) -> Rendered:
        """Draw rays; see `Renderer`."""
        parts, evaluated = [], 0
        for begin in range(0, origins.shape[0], _CHUNK):
            some = slice(begin, begin + _CHUNK)
            traced = self.trace(origins[some], directions[some], self.config.min_transmittance)
            samples = traced.samples
            parts.append(
                composite(
                    traced.sigma,
                    traced.color,
                    samples.t0,
                    samples.t1,
                    samples.ray_offsets,
                    background[some],
                )
            )
            evaluated += traced.evaluated
        if not parts:
            return Rendered(background, origins.new_zeros(0), origins.new_zeros(0), 0)
        opacity = torch.cat([part.opacity for part in parts])
        return Rendered(
            color=torch.cat([part.color for part in parts]),
            depth=torch.cat([part.depth for part in parts]) / opacity.clamp_min(1e-6),
            opacity=opacity,
            samples=evaluated,
        )

    @torch.no_grad()
    def refresh(self, generator: Generator, warm: bool) -> None:
        """Update the occupancy grid from the field.

        A field that is not pointwise says nothing of single points that holds on a ray, and what it says on a ray hangs
        on which cells are occupied: its grid stays as it was carved.

        Args:
            generator: Chooses cells and points in them.
            warm: Whether to visit all cells instead of some.
        """
        if not self.field.pointwise:
            return
        self.grid.update(lambda x: self.field.density(x)[0], self.config.step, generator, warm=warm)

    def occupied(self, unit: Float[Tensor, "N 3"]) -> Bool[Tensor, " N"]:
        """Say which points of the domain's unit cube lie in occupied cells."""
        return self.grid.occupied(self.field.domain.to_world(unit))

    def carve(self, scene: "Scene") -> None:
        """Empty the cells that fall outside the silhouette of some training view, by the images' alpha.

        For cameras without distortion: silhouettes are compared on the image plane.
        """
        views = scene.split["train"]
        cameras = scene.cameras.select(views)
        self.grid.carve(cameras, (scene.images.alpha(i) for i in views))

    def state(self) -> dict[str, Tensor]:
        """Which cells are occupied, eight to a byte."""
        occupied = (self.grid.distance.view(-1) == 0).view(-1, 8)
        return {"occupied": (occupied * _BITS).sum(1, dtype=torch.uint8)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave.

        Raises:
            DataError: It is not that of a grid of this size.
        """
        cells = self.grid.values.numel()
        packed = state.get("occupied")
        if packed is None or packed.dtype != torch.uint8 or packed.shape != (cells // 8,):
            raise DataError(f"The field's occupancy must be {cells // 8} bytes for {cells} cells.")
        bits = (packed[:, None] & _BITS) != 0
        self.grid.set_from_hull(bits)

    def training_state(self) -> dict[str, Tensor]:
        """Everything that the grid has learnt, for going on with training."""
        return self.grid.state_dict()

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `training_state` gave."""
        self.grid.load_state_dict(state)
