"""Saliency (HollowNeRF; Xie et al. 2023): a learned grid says how much each place counts, and is kept mostly empty.

Features are scaled by p in (0, 1), the sigmoid of what a dense grid interpolates, and density by tanh(alpha |p f|). A
penalty holds the mean of p over the grid's vertices at a target: where no ray pulls at it, p falls to 0, interiors
become hollow, and the entries of a hash grid serve what is seen. The penalty is an augmented Lagrangian: its multiplier
rises while the mean is above the target and falls, to 0 at most, while it is below.

A trained gate can be closed where p is next to nothing: in cells in which it is small everywhere it is exactly 0 from
then on, so that nothing needs to be evaluated, nor kept, for points there.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from polyfield import native
from polyfield.errors import ConfigError
from polyfield.fields.native_form import Gradient
from polyfield.fields.ops.bits import pack_bits, unpack_bits
from polyfield.fields.ops.factor_grid import Factor, FactorLayout, factor_grid
from polyfield.fields.registry import ParameterGroup

__all__ = ["Config", "Saliency", "build"]

_INITIAL = 1.0  # of the grid: p = 0.73 everywhere
_EMPTY = 0.5  # a vertex with p below counts as empty


@dataclass(frozen=True)
class Config:
    """Saliency gate.

    Attributes:
        side: Vertices along each axis, 2 to 1024.
        target: Mean of p over the vertices that is aimed at.
        penalty: Weight rho of the squared excess over the target, and step of the multiplier. The paper does not tell.
        alpha_start: Steepness of the factor on density at first. It goes with features that start at 1e-4, as a hash
            grid's do: for others scale it by the inverse.
        alpha_end: Steepness later.
        switch: Share of the run after which `alpha_end` holds.
        closed_below: Cells in which p is less everywhere have been closed; 0: none. `Saliency.close` sets it, in the
            models that are saved.
    """

    side: int = 64
    target: float = 0.04
    penalty: float = 1e-3
    alpha_start: float = 1e4
    alpha_end: float = 1e5
    switch: float = 1 / 3
    closed_below: float = 0.0

    def __post_init__(self) -> None:
        if not 2 <= self.side <= 1024:
            raise ConfigError(f"saliency: side must be in 2..1024, but is {self.side}.")
        for name in ("target", "switch", "closed_below"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"saliency: {name} must be in [0, 1], but is {getattr(self, name)}."
                )
        for name in ("penalty", "alpha_start", "alpha_end"):
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"saliency: {name} must be above 0, but is {getattr(self, name)}."
                )


class Saliency(nn.Module):
    """Scales features by p(x), and gives a factor on density: 0 where all scaled features are 0.

    Attributes:
        grid: [side^dim, 1], before the sigmoid; its vertices lie on the borders of [0, 1].
        multiplier: Of the Lagrangian, at least 0.
        alpha: Steepness of the factor now.
        closed: Which cells are closed, a bit for each, the first axis fastest; there only where the config says so.

    Args:
        config: Settings.
        dim: Number of coordinates, 1 to 3.
    """

    multiplier: Tensor
    alpha: Tensor
    closed: Tensor

    def __init__(self, config: Config, dim: int) -> None:
        super().__init__()
        self.config = config
        box = Factor(tuple(range(dim)), (config.side,) * dim)
        self.layout = FactorLayout(dim, 1, ((box,),))
        self.grid = nn.Parameter(torch.full((self.layout.rows, 1), _INITIAL))
        self.register_buffer("multiplier", torch.zeros(()))
        self.register_buffer("alpha", torch.full((), config.alpha_start))
        self._cells = (config.side - 1,) * dim
        # Of the mean of p over the target, as the last gradient saw it.
        self._excess = torch.zeros(())
        if config.closed_below:
            bytes_of_cells = -(-((config.side - 1) ** dim) // 8)
            self.register_buffer("closed", torch.zeros(bytes_of_cells, dtype=torch.uint8))

    def forward(
        self, x: Float[Tensor, "N D"], features: Float[Tensor, "N F"]
    ) -> tuple[Float[Tensor, "N F"], Float[Tensor, " N"]]:
        """Let through; nobody asks at points in closed cells."""
        scaled = torch.sigmoid(factor_grid(x, self.grid, self.layout)) * features
        return scaled, torch.tanh(self.alpha * _norm(scaled))

    def native_gate(self, gradient: Gradient) -> Any | None:
        """Make the native form for points [N, 3]: see `polyfield.fields.native_form`."""
        if self.layout.dim != 3:
            return None
        return native.core().SaliencyGate(
            self.layout.packed.data_ptr(),
            self.grid.data_ptr(),
            float(self.alpha),
            self.closed.data_ptr() if self.config.closed_below else 0,
            self._cells[0],
            gradient(self.grid),
        )

    def open(self, x: Float[Tensor, "N D"]) -> Bool[Tensor, " N"] | None:
        """Say which points lie in cells that are not closed; those with a NaN do. None: all."""
        if not self.config.closed_below:
            return None
        side = self.config.side - 1
        place = (x.detach().clamp(0, 1) * side).nan_to_num_(0.0)  # as the grid is read
        axes = place.int().clamp_(max=side - 1).unbind(1)
        cell = sum((axis * side**i for i, axis in enumerate(axes[1:], start=1)), axes[0])
        shut = (self.closed.index_select(0, cell >> 3) >> (cell & 7)) & 1
        return (shut == 0) | x.isnan().any(1)

    @torch.no_grad()
    def close(self, below: float) -> tuple[dict[str, Any], Bool[Tensor, "..."]]:
        """Close the cells in which p is less than `below` everywhere, for good.

        p is largest at a vertex, so it changes by less than `below` anywhere. Vertices of closed cells alone become 0.

        Args:
            below: Above 0, at most 1.

        Returns:
            config: The keys of the config that now say something else.
            cells: Which cells are open, the first axis first.
        """
        vertices = self.grid.detach().view([self.config.side] * len(self._cells))  # last axis first
        for axis in range(vertices.ndim):
            lower, upper = (vertices.narrow(axis, i, self.config.side - 1) for i in (0, 1))
            vertices = torch.maximum(lower, upper)
        cells = torch.sigmoid(vertices) >= below
        if self.config.closed_below:  # what was closed before stays so: tables may have dropped it
            cells &= self._open_cells()
        self.config = replace(self.config, closed_below=below)
        self.register_buffer("closed", pack_bits(~cells.reshape(-1)).to(self.grid.device))
        self.grid.masked_fill_(~self._open_vertices().view(-1, 1), 0.0)
        return {"closed_below": below}, cells.permute(*reversed(range(cells.ndim)))

    def _open_cells(self) -> Tensor:
        """Which cells are open, the last axis first."""
        shut = unpack_bits(self.closed, self._cells[0] ** len(self._cells))
        return ~shut.to(self.grid.device).view(self._cells)

    def _open_vertices(self) -> Tensor:
        """Which vertices an open cell has, the last axis first."""
        there = self._open_cells()
        for axis in range(there.ndim):
            none = torch.zeros_like(there.narrow(axis, 0, 1))
            there = torch.cat([there, none], axis) | torch.cat([none, there], axis)
        return there

    def _vertex_saliency(self) -> Tensor:
        """Compute p at the vertices, 0 where it is read from closed cells alone."""
        p = torch.sigmoid(self.grid.detach())
        if self.config.closed_below:
            p = p.masked_fill(~self._open_vertices().view(-1, 1), 0.0)
        return p

    @torch.no_grad()
    def regularise(self, progress: float) -> None:
        """Add the gradient of rho / 2 max(0, s - C)^2 + multiplier (s - C), s the mean of p."""
        del progress  # it is the same penalty all along
        p = self._vertex_saliency()
        self._excess = p.mean() - self.config.target
        pull = self.multiplier + self.config.penalty * self._excess.clamp(min=0)
        gradient = p.sub_(p * p).mul_(pull / len(p))  # sigmoid' = p (1 - p)
        if self.grid.grad is None:
            self.grid.grad = gradient
        else:
            self.grid.grad += gradient

    @torch.no_grad()
    def follow(self, progress: float) -> None:
        """Step the multiplier by the excess that the penalty saw, and set `alpha` for the next step."""
        config = self.config
        self.multiplier.add_(config.penalty * self._excess).clamp_(min=0)
        self.alpha.fill_(config.alpha_start if progress < config.switch else config.alpha_end)

    def saliency(self) -> float:
        """Mean of p over the vertices, which the penalty holds at the target."""
        return float(self._vertex_saliency().mean())

    def empty_share(self) -> float:
        """Share of vertices with p below a half."""
        return float((self._vertex_saliency() < _EMPTY).float().mean())

    def groups(self) -> list[ParameterGroup]:
        """List what is trained: the grid."""
        return [ParameterGroup("grid", [self.grid])]


def build(config: Config, dim: int, generator: Generator) -> Saliency:  # noqa: ARG001
    """Make the gate for coordinates [N, dim], dim 1 to 3.

    Raises:
        ConfigError: Points have other coordinates.
    """
    if not 1 <= dim <= 3:
        raise ConfigError(f"saliency: points must have 1 to 3 coordinates, but have {dim}.")
    return Saliency(config, dim)


def _norm(rows: Tensor) -> Tensor:
    """Length of each row; exactly 0, with a gradient of 0, for rows of zeros."""
    squares = rows.square().sum(1)
    there = squares > 0
    return torch.where(there, squares.where(there, 1.0).sqrt(), 0.0)
