"""NeuRBF (Chen et al. 2023): adaptive radial bases, placed where data need them, beside a grid."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from polyfield import native
from polyfield.errors import ConfigError
from polyfield.fields.native_form import native_form
from polyfield.fields.ops.rbf import RadialBases, RbfShape, rbf
from polyfield.fields.ops.rbf_neighbours import Neighbours
from polyfield.fields.ops.rbf_placement import even_shapes, place_bases
from polyfield.fields.ops.rbf_shape import KERNELS
from polyfield.fields.ops.sparse_gradient import SparseGradient
from polyfield.fields.registry import (
    Change,
    Growing,
    ParameterGroup,
    Prepared,
    Regularised,
    build_encoder,
    complete,
)

__all__ = ["Config", "NeuRbf", "build"]

_MOST_KERNELS = 2**24


@dataclass(frozen=True)
class Config:
    """NeuRBF encoder.

    Attributes:
        grid: Config of an encoder whose features come first; None: none.
        kernels: How many radial bases there are, at least `neighbours`; not read where `stored` is given.
        stored: How many numbers the encoder may hold in all: those of the grid, of the bias and of the kernels (their
            features, centres and shapes, although the last two are not trained). The number of kernels follows. None:
            as many as `kernels` need.
        features: Of a kernel, 1 to 1024.
        neighbours: Kernels that a point reads, 1 to 16.
        kernel: "inverse_quadratic", "inverse_multiquadric", "gaussian" or "tent": see `RbfShape`.
        frequencies: Features are weighed by sines of kernel values at frequencies from 2^a to 2^b; None: by the values
            themselves.
        normalise: Whether kernel values are divided by their sum.
        initial_features: First features are uniform in plus and minus this.
        initial_bias: The same of the bias that is added to all features of the encoder; 0: there is none.
        spread: Kernels that are placed by data are as wide as their points lie, divided by the root of this.
    """

    grid: dict[str, Any] | None = None
    kernels: int = 4096
    stored: int | None = None
    features: int = 32
    neighbours: int = 4
    kernel: str = "inverse_quadratic"
    frequencies: tuple[float, float] | None = (-3.0, 12.0)
    normalise: bool = True
    initial_features: float = 1e-4
    initial_bias: float = 1e-4
    spread: float = 0.5

    def __post_init__(self) -> None:
        if self.grid is not None:
            object.__setattr__(self, "grid", complete("encoders", self.grid))
        self.shape(1)  # what holds for every number of coordinates
        if self.stored is None and not self.neighbours <= self.kernels <= _MOST_KERNELS:
            raise ConfigError(
                f"neurbf: kernels must be {self.neighbours} (its neighbours) to 2^24, but is {self.kernels}."
            )
        if min(self.initial_features, self.initial_bias) < 0:
            raise ConfigError("neurbf: initial_features and initial_bias must be 0 or above.")
        if not 0 < self.spread <= 1000:
            raise ConfigError(
                f"neurbf: spread must be above 0 and up to 1000, but is {self.spread}."
            )

    def shape(self, dim: int) -> RbfShape:
        """Give the sizes of the operation on points [N, dim]."""
        return RbfShape(
            dim, self.features, self.neighbours, self.kernel, self.normalise, self.frequencies
        )


class NeuRbf(nn.Module):
    """Coordinates [N, D] in [0, 1] to features [N, G + F], float32: a grid's, then those of radial bases.

    Until `prepare` places them, kernels lie anywhere, uniformly, and are as wide as their mean distance.

    Attributes:
        shape: Which radial bases.
        out_dim: G + F.
        grid: The other encoder, or None.
        centres, shapes, extent: See `RadialBases`. Saved, but not trained.
        features: [M, F], what the kernels hold.
        gradient: Where backward passes accumulate the gradient of `features`; `features.grad` stays None.
        bias: [G + F], or None.
    """

    centres: Tensor
    shapes: Tensor
    extent: Tensor

    def __init__(self, config: Config, dim: int, generator: Generator):
        super().__init__()
        self.shape = config.shape(dim)
        self.grid = None if config.grid is None else build_encoder(config.grid, dim, generator)
        self.out_dim = config.features + (0 if self.grid is None else self.grid.out_dim)
        self._grid_config = config.grid or {}
        self._spread, self._initial = config.spread, config.initial_features
        count = _kernels(config, self.shape, self.out_dim, self.grid)
        extent = torch.ones(dim)
        self.register_buffer("centres", torch.empty(count, dim).uniform_(generator=generator))
        self.register_buffer("shapes", even_shapes(count, extent, self.shape))
        self.register_buffer("extent", extent)
        self.features = _uniform((count, config.features), config.initial_features, generator)
        self.gradient = SparseGradient(self.features)
        self.bias = (
            _uniform((self.out_dim,), config.initial_bias, generator)
            if config.initial_bias > 0
            else None
        )
        self._neighbours: tuple[object, Neighbours] | None = None

    def forward(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N GF"]:
        """Encode points."""
        ids = self.neighbours()(x)
        out = rbf(x, ids, self.features, self.bases(), self.shape, gradient=self.gradient)
        if self.grid is not None:
            out = torch.cat([self.grid(x), out], 1)
        return out if self.bias is None else out + self.bias

    def native_points(self) -> Any | None:
        """Make the native form: see `polyfield.fields.native_form`. There is none with a bias."""
        index, bases, shape = self.neighbours().native_index, self.bases(), self.shape
        if not index or self.bias is not None or shape.dim != 3 or not native.usable(*bases):
            return None
        if not all(part.is_contiguous() for part in bases):
            return None
        frequencies = shape.sine_factors
        own = native.core().RbfPoints(
            *(index, *(part.data_ptr() for part in (*bases, self.features))),
            0 if frequencies is None else frequencies.data_ptr(),
            *(*self.features.shape, shape.neighbours),
            *(KERNELS.index(shape.kernel), shape.normalise),
            *(self.gradient.values.data_ptr(), self.gradient.touched.data_ptr()),
        )
        if self.grid is None:
            return own
        grid = native_form(self.grid, "native_points")
        return None if grid is None else native.core().JoinedPoints(grid, own)

    def bases(self) -> RadialBases:
        """Give the kernels as they are placed now."""
        return RadialBases(self.centres, self.shapes, self.extent)

    def neighbours(self) -> Neighbours:
        """Give what finds the nearest kernels; it is made anew where they have moved."""
        state = tuple(_state(tensor) for tensor in (self.centres, self.extent))
        if self._neighbours is None or self._neighbours[0] != state:
            found = Neighbours(self.centres, self.extent, self.shape.neighbours)
            self._neighbours = (state, found)
        return self._neighbours[1]

    @torch.no_grad()
    def prepare(
        self,
        points: Float[Tensor, "M D"],
        weights: Float[Tensor, " M"],
        extent: Float[Tensor, " D"],
        generator: Generator,
    ) -> None:
        """Place the kernels by weighted k-means: see `place_bases`, and `Prepared` for the arguments.

        What they held belonged to other places: they begin anew.
        """
        placed = place_bases(
            points,
            weights,
            extent,
            len(self.centres),
            self.shape,
            spread=self._spread,
            generator=generator,
        )
        for name, tensor in placed._asdict().items():
            getattr(self, name).copy_(tensor)
        self.features.uniform_(-self._initial, self._initial, generator=generator)
        if isinstance(self.grid, Prepared):
            self.grid.prepare(points, weights, extent, generator)

    def regularise(self, progress: float) -> None:
        """Add the gradient of the grid's penalty, if it has one."""
        if isinstance(self.grid, Regularised):
            self.grid.regularise(progress)

    def grow(self, progress: float, occupied: Callable[[Tensor], Tensor]) -> Change | None:
        """Let the grid change its size, if it does; there remain as many kernels as there were."""
        change = self.grid.grow(progress, occupied) if isinstance(self.grid, Growing) else None
        if change is None:
            return None
        self._grid_config = {**self._grid_config, **change.config}
        own = {"grid": self._grid_config, "kernels": len(self.centres), "stored": None}
        return Change(own, change.resizes)

    def groups(self) -> list[ParameterGroup]:
        """List what is trained: the grid's own, the kernels' features, the bias."""
        groups = [] if self.grid is None else self.grid.groups()
        for group in groups:
            group.name = f"grid.{group.name}"
        groups.append(ParameterGroup("features", [self.features], gradient=self.gradient))
        if self.bias is not None:
            groups.append(ParameterGroup("bias", [self.bias]))
        return groups


def build(config: Config, dim: int, generator: Generator) -> NeuRbf:
    """Make the encoder for points [N, dim], dim 1 to 3.

    Raises:
        ConfigError: A value is out of range, or `stored` is too small for `neighbours` kernels.
    """
    return NeuRbf(config, dim, generator)


def _kernels(config: Config, shape: RbfShape, out_dim: int, grid: Any) -> int:
    """How many kernels there are."""
    if config.stored is None:
        return config.kernels
    held = () if grid is None else (*grid.parameters(), *grid.buffers())
    rest = sum(tensor.numel() for tensor in held) + (out_dim if config.initial_bias > 0 else 0)
    each = shape.channels + shape.dim + shape.entries
    count: int = (config.stored - rest) // each
    if not shape.neighbours <= count <= _MOST_KERNELS:
        least, most = (rest + n * each for n in (shape.neighbours, _MOST_KERNELS))
        raise ConfigError(
            f"neurbf: stored must be at least {least} here ({rest} for grid and bias, {each} for each of "
            f"{shape.neighbours} kernels) and at most {most}, but is {config.stored}."
        )
    return count


def _uniform(size: tuple[int, ...], initial: float, generator: Generator) -> nn.Parameter:
    return nn.Parameter(torch.empty(size).uniform_(-initial, initial, generator=generator))


def _state(tensor: Tensor) -> tuple[int, int]:
    """What differs after a tensor was changed or replaced."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version
