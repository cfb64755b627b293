"""Coordinate-aware modulation (CAM; Lee et al. 2024): a perceptron whose hidden layers are scaled and shifted by place.

In each hidden layer gamma(c) norm(z) + beta(c) stands in for the sums z, before the relu: c are coordinates, or the two
angles of a direction, and gamma and beta are numbers shared by all columns, read from small grids, a pair for each
layer. Gamma starts at 1 and beta at 0.

The paper's radiance fields normalise over all samples of a ray together. What such a head gives at a point is then no
function of the point: see `Head.pointwise` in `polyfield.fields.registry`.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor, nn

from polyfield.errors import ConfigError, ShapeError
from polyfield.fields.heads._joined import joined
from polyfield.fields.heads.mlp import initial_weights
from polyfield.fields.ops.factor_grid import Factor, FactorLayout, factor_grid
from polyfield.fields.ops.mlp import MlpShape
from polyfield.fields.ops.modulate import modulate
from polyfield.fields.ops.modulate_rays import modulate_rays
from polyfield.fields.registry import ParameterGroup

__all__ = ["Cam", "Config", "angles", "build"]


@dataclass(frozen=True)
class Config:
    """Perceptron with coordinate-aware modulation.

    Attributes:
        width: Columns of each hidden layer.
        hidden: Number of hidden layers, 1..8; the paper's picture network has 3 of 256.
        sides: Vertices of the grids along each coordinate, one to three of them.
        angles: Whether coordinates are directions [N, 3], of which the azimuth, which goes around, and the elevation
            count. The paper's grids are then of (10, 3).
        norm: "feature": a row loses its mean and is divided by its standard deviation over the columns; "ray": the same
            over the columns of all samples of its ray; or "none".
        output_activation: Of the last layer: "none" or "sigmoid".
        skips: Layers that read the input again (0 is the first matrix).
    """

    width: int = 64
    hidden: int = 2
    sides: tuple[int, ...] = (32, 32, 32)
    angles: bool = False
    norm: str = "feature"
    output_activation: str = "none"
    skips: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.norm not in ("feature", "ray", "none"):
            raise ConfigError(
                f'cam: norm must be "feature", "ray" or "none", but is {self.norm!r}.'
            )
        if not self.sides:
            raise ConfigError("cam: sides must be one to three numbers of vertices, but are [].")
        if self.angles and len(self.sides) != 2:
            raise ConfigError(
                "cam: with angles, sides must be two numbers, of azimuth and elevation, but are "
                f"{list(self.sides)}."
            )


class Cam(nn.Module):
    """A perceptron with biases, modulated by coordinates.

    Attributes:
        weights: Flat, as `polyfield.fields.ops.mlp.MlpShape` says.
        grids: [..., 2 hidden], the sides reversed before it: the first coordinate runs fastest. Of each layer gamma,
            then beta.

    Example:
        >>> head = build(Config(sides=(4, 4)), 8, 3, torch.Generator().manual_seed(0))
        >>> head(torch.zeros(5, 8), coordinates=torch.rand(5, 2)).shape
        torch.Size([5, 3])
    """

    wants_coordinates: ClassVar[bool] = True

    @property
    def wants_directions(self) -> bool:
        """Whether coordinates are directions."""
        return self.config.angles

    @property
    def pointwise(self) -> bool:
        """Whether samples are treated one by one."""
        return self.config.norm != "ray"

    def __init__(self, config: Config, shape: MlpShape, generator: torch.Generator) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        first, *others = config.sides
        read = (first + 1 if config.angles else first, *others)  # the azimuth's first vertex again
        box = Factor(tuple(range(len(read))), read)
        self.layout = FactorLayout(len(read), 2 * shape.hidden, ((box,),))
        self.weights = nn.Parameter(initial_weights(shape, generator))
        grids = torch.zeros(*reversed(config.sides), 2 * shape.hidden)
        grids[..., ::2] = 1.0
        self.grids = nn.Parameter(grids)

    def forward(
        self,
        x: Float[Tensor, "N x"],
        condition: Float[Tensor, "R c"] | None = None,
        rows: Int32[Tensor, " N"] | None = None,
        *,
        coordinates: Float[Tensor, "N D"] | None,
        rays: Int[Tensor, " N"] | None = None,
    ) -> Float[Tensor, "N out"]:
        """Run the network.

        Args:
            x: Features.
            condition: Features shared by many points, behind those of `x`.
            rows: Which row of the condition each point takes.
            coordinates: In [0, 1]^D, or directions [N, 3] where the config says angles. None, with angles alone: seen
                from no direction in particular, gamma and beta are the means of their grids.
            rays: With norm "ray" the ray of each point, from 0. None: each is a ray of its own.

        Raises:
            ShapeError: Tensors do not fit the head or each other.
        """
        inputs = joined(x, condition, rows)
        self._check(inputs, coordinates)
        modulation = self._modulation(coordinates, len(inputs)).unbind(1)
        if rays is None and not self.pointwise:
            rays = torch.arange(len(inputs), device=inputs.device)
        biases = self.shape.biases(self.weights)
        h = inputs
        for layer, matrix in enumerate(self.shape.split(self.weights)):
            if layer in self.shape.skips:
                h = torch.cat([h, inputs], 1)
            h = nn.functional.linear(h, matrix, biases[layer])
            if layer < self.shape.hidden:
                h = self._normalised(h, modulation[2 * layer : 2 * layer + 2], rays)
        return torch.sigmoid(h) if self.shape.output_activation == "sigmoid" else h

    def _normalised(self, z: Tensor, pair: tuple[Tensor, ...], rays: Tensor | None) -> Tensor:
        scale, shift = pair
        if self.pointwise or rays is None:
            return modulate(z, scale, shift, self.config.norm == "feature")
        return modulate_rays(z, scale, shift, rays)

    def _modulation(self, coordinates: Tensor | None, count: int) -> Tensor:
        grids: Tensor = self.grids
        if coordinates is None:
            return grids.reshape(-1, grids.shape[-1]).mean(0).expand(count, -1)
        if self.config.angles:
            coordinates = angles(coordinates)
            grids = torch.cat([grids, grids[:, :1]], 1)
        table = grids.reshape(self.layout.rows, -1)
        return factor_grid(coordinates, table, self.layout)

    def _check(self, inputs: Tensor, coordinates: Tensor | None) -> None:
        if coordinates is None and self.config.angles:
            return
        if coordinates is None:
            raise ShapeError("cam: coordinates may be left out where they are directions only.")
        wanted = 3 if self.config.angles else self.layout.dim
        if coordinates.dim() != 2 or coordinates.shape[1] != wanted:
            what = "directions" if self.config.angles else "coordinates"
            raise ShapeError(
                f"cam: with sides {list(self.config.sides)} {what} must be [N, {wanted}], but are "
                f"{list(coordinates.shape)}."
            )
        if inputs.dim() != 2 or inputs.shape != (len(coordinates), self.shape.inputs):
            raise ShapeError(
                f"cam: x and condition must be [{len(coordinates)}, {self.shape.inputs}] together, a row for each "
                f"point of the coordinates, but are {list(inputs.shape)}."
            )

    def groups(self) -> list[ParameterGroup]:
        """List what is trained: the weights, and the grids, at ten times the rate as in the paper's code."""
        return [
            ParameterGroup("weights", [self.weights]),
            ParameterGroup("grids", [self.grids], rate=10.0),
        ]


def build(config: Config, inputs: int, outputs: int, generator: torch.Generator) -> Cam:
    """Make the head.

    Raises:
        ConfigError: A value out of its range.
    """
    shape = MlpShape(
        inputs,
        outputs,
        config.width,
        config.hidden,
        output_activation=config.output_activation,
        skips=config.skips,
        bias=True,
    )
    return Cam(config, shape, generator)


def angles(directions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 2"]:
    """Azimuth and elevation, each in [0, 1]: from -pi to pi around z, from the lower pole to the upper.

    Example:
        >>> angles(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])).tolist()
        [[0.5, 0.5], [0.5, 1.0]]
    """
    x, y, z = directions.unbind(1)
    pole = (x == 0) & (y == 0)  # no azimuth there: any will do, with a finite gradient
    x = torch.where(pole, 1.0, x)
    level = torch.where(pole, 0.0, torch.hypot(x, y))
    azimuth, elevation = torch.atan2(y, x) / (2 * math.pi), torch.atan2(z, level) / math.pi
    return torch.stack([azimuth, elevation], 1) + 0.5
