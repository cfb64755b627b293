"""Domains: from world positions to the unit cube that encoders see.

A domain belongs to a model. Encoders never learn where in the world they are or in which unit it is measured.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from polyfield import native
from polyfield.config import from_json, to_json
from polyfield.errors import ConfigError, nearest

__all__ = ["Box", "Contraction", "Domain", "build_domain", "domain_json"]

Triple = tuple[float, float, float]

_NEARLY_OUT = 1e-6  # the inverse of the largest distance, in radii


class Domain(Protocol):
    """What every domain offers."""

    @property
    def scale(self) -> float:
        """A world length that is one unit of the scene: densities are per this length."""
        ...

    def to_unit(self, positions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Map world positions to [0, 1]^3; positions outside land on the border."""
        ...

    def to_world(self, unit: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Undo `to_unit`."""
        ...

    def inside(self, positions: Float[Tensor, "N 3"]) -> Bool[Tensor, " N"]:
        """Say which positions the field is defined at; elsewhere density and gradient are 0."""
        ...

    def place(
        self, positions: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, "N 3"], Bool[Tensor, " N"]]:
        """Give `to_unit` and `inside` in one pass."""
        ...


def _check_box(low: tuple[float, ...], high: tuple[float, ...]) -> None:
    if not all(a < b for a, b in zip(low, high, strict=True)):
        raise ConfigError(f"A domain's low corner {low} must be below its high corner {high}.")


@dataclass(frozen=True)
class Box:
    """An axis-aligned box, mapped onto the cube axis by axis.

    Attributes:
        low, high: Corners, in world units.
        detail: Longest side of the part that deserves the finest detail; None: the box's own.

    Example:
        >>> Box((0.0, 0.0, 0.0), (2.0, 2.0, 2.0)).to_unit(torch.tensor([[1.0, 0.5, 2.0]])).tolist()
        [[0.5, 0.25, 1.0]]
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    detail: float | None = None

    def __post_init__(self) -> None:
        _check_box(self.low, self.high)

    @property
    def scale(self) -> float:
        """The longest side of the detailed part."""
        longest = max(b - a for a, b in zip(self.low, self.high, strict=True))
        return longest if self.detail is None else self.detail

    def to_unit(self, positions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Map linearly; clamp what lies outside."""
        return self._raw(positions).clamp(0.0, 1.0)

    def to_world(self, unit: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Map linearly."""
        low, high = unit.new_tensor(self.low), unit.new_tensor(self.high)
        return low + unit * (high - low)

    def inside(self, positions: Float[Tensor, "N 3"]) -> Bool[Tensor, " N"]:
        """Whether within the box, its border included."""
        low, high = positions.new_tensor(self.low), positions.new_tensor(self.high)
        return ((positions >= low) & (positions <= high)).all(-1)

    def place(
        self, positions: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, "N 3"], Bool[Tensor, " N"]]:
        """Give `to_unit` and `inside` in one pass."""
        if not _native(positions):
            return self.to_unit(positions), self.inside(positions)
        positions = positions.contiguous()
        unit = torch.empty_like(positions)
        inside = torch.empty(len(positions), dtype=torch.bool)
        native.core().domain_box(
            positions.data_ptr(),
            *self.native_place()[1:],
            len(positions),
            unit.data_ptr(),
            inside.data_ptr(),
        )
        return unit, inside

    def native_place(self) -> tuple[bool, Triple, Triple]:
        """Tell native code where the unit cube lies: no ball; its lowest corner; the inverse of its sides."""
        x, y, z = (1.0 / (b - a) for a, b in zip(self.low, self.high, strict=True))
        return False, self.low, (x, y, z)

    def _raw(self, positions: Tensor) -> Tensor:
        low, high = positions.new_tensor(self.low), positions.new_tensor(self.high)
        return (positions - low) / (high - low)


@dataclass(frozen=True)
class Contraction:
    """All of space: a ball as it is, and everything around it squeezed into a shell as thick as its radius.

    With y = (x - center) / radius: y where |y| <= 1, else (2 - 1/|y|) y/|y|; then y/4 + 1/2.

    Attributes:
        center: Of the ball, in world units.
        radius: Of the ball; the finest detail is inside.

    See: Barron et al. (2022), "Mip-NeRF 360", section 3.
    """

    center: tuple[float, float, float]
    radius: float

    def __post_init__(self) -> None:
        if not self.radius > 0:
            raise ConfigError(f"A contraction's radius must be above 0, but is {self.radius}.")

    @property
    def scale(self) -> float:
        """The ball's diameter."""
        return 2 * self.radius

    def to_unit(self, positions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Contract."""
        y = (positions - positions.new_tensor(self.center)) / self.radius
        norm = y.norm(dim=-1, keepdim=True).clamp_min(1.0)
        unit: Tensor = y * ((2.0 - 1.0 / norm) / norm) * 0.25 + 0.5
        return unit

    def to_world(self, unit: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Expand; what lies on the outermost sphere or beyond lands a million radii away."""
        y = (unit - 0.5) * 4.0
        norm = y.norm(dim=-1, keepdim=True).clamp_min(1.0)
        far = 1.0 / (2.0 - norm).clamp_min(_NEARLY_OUT)
        result: Tensor = unit.new_tensor(self.center) + self.radius * y * (far / norm)
        return result

    def inside(self, positions: Float[Tensor, "N 3"]) -> Bool[Tensor, " N"]:
        """Everywhere."""
        return torch.ones(positions.shape[0], dtype=torch.bool, device=positions.device)

    def place(
        self, positions: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, "N 3"], Bool[Tensor, " N"]]:
        """Give `to_unit` and `inside` in one pass."""
        if not _native(positions):
            return self.to_unit(positions), self.inside(positions)
        positions = positions.contiguous()
        unit = torch.empty_like(positions)
        _, center, (inverse, *_) = self.native_place()
        native.core().domain_contraction(
            positions.data_ptr(), center, inverse, len(positions), unit.data_ptr()
        )
        return unit, self.inside(positions)

    def native_place(self) -> tuple[bool, Triple, Triple]:
        """Tell native code where the ball lies: a ball; its centre; the inverse of its radius."""
        inverse = 1.0 / self.radius
        return True, self.center, (inverse, inverse, inverse)


def _native(positions: Tensor) -> bool:
    """Whether the kernels can take the positions: [N, 3] floats, and they have no gradient."""
    return (
        native.usable(positions)
        and positions.is_floating_point()
        and positions.shape[1:] == (3,)
        and not (positions.requires_grad and torch.is_grad_enabled())
    )


_KINDS: dict[str, type] = {"box": Box, "contraction": Contraction}


def build_domain(data: Any) -> Domain:
    """Read a domain from its JSON form, e.g. {"kind": "box", "low": [0, 0, 0], "high": [1, 1, 1]}."""
    if not isinstance(data, dict) or data.get("kind") not in _KINDS:
        kind = data.get("kind") if isinstance(data, dict) else data
        raise ConfigError(f"There is no domain {kind!r}.{nearest(str(kind), _KINDS)}")
    rest = {key: value for key, value in data.items() if key != "kind"}
    domain: Domain = from_json(_KINDS[data["kind"]], rest, f"domain {data['kind']!r}")
    return domain


def domain_json(domain: Domain) -> dict[str, Any]:
    """Write a domain in the form that `build_domain` reads."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(domain, cls))
    return {"kind": kind, **to_json(domain)}
