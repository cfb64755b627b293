"""Radiance fields: density anywhere, colour anywhere in a direction.

position -> domain -> encoder -> [gate] -> density head -> [raw density, features]
[features, encoded direction] -> colour head -> rgb

The features are the density head's outputs, or those of an encoder of their own (`appearance_encoder`). A gate scales
what the encoder gives, and density. Heads may be modulated by coordinates: positions, or directions where they decode
colour.

A field whose heads look at all samples of a ray together, or whose density depends on the direction, is not pointwise:
it has to be asked for whole rays.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from polyfield.errors import ConfigError, nearest
from polyfield.fields.domain import Domain
from polyfield.fields.ops.density import ACTIVATIONS, density
from polyfield.fields.parted import PartedField, decode, fill_slots
from polyfield.fields.registry import Closing, build_encoder, build_gate, build_head
from polyfield.fields.samples import Samples

__all__ = ["RadianceConfig", "RadianceField"]


_SLOTS = {
    "encoder": "encoders",
    "gate": "gates",
    "density_head": "heads",
    "appearance_encoder": "encoders",
    "direction_encoder": "encoders",
    "color_head": "heads",
}


@dataclass(frozen=True)
class RadianceConfig:
    """What a radiance field is made of.

    Attributes:
        encoder: Of positions.
        density_head: Its first output is the raw density, all of its outputs are the features.
        direction_encoder: Of view directions; None: colour does not depend on the direction.
        color_head: Gives raw rgb.
        features: Width of the density head's output, the raw density included.
        density: How raw density becomes density: "exp", "softplus" or "relu".
        color: How raw rgb becomes colour: "sigmoid", or "none" where the colour head itself ends in one.
        density_gain: Factor on density. Densities are per `domain.scale`, so this is what a scene starts with.
        appearance_encoder: Of positions, for the colour head alone; None: it takes the density head's outputs.
        gate: Of the encoder's features and of density; None: none.
    """

    encoder: dict[str, Any]
    density_head: dict[str, Any]
    direction_encoder: dict[str, Any] | None
    color_head: dict[str, Any]
    features: int = 16
    density: str = "exp"
    color: str = "sigmoid"
    density_gain: float = 1.0
    appearance_encoder: dict[str, Any] | None = None
    gate: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.density not in ACTIVATIONS:
            raise ConfigError(
                f"density must be one of the known activations, but is {self.density!r}."
                f"{nearest(self.density, ACTIVATIONS)}"
            )
        if self.color not in ("sigmoid", "none"):
            raise ConfigError(f'color must be "sigmoid" or "none", but is {self.color!r}.')
        if not 1 <= self.features <= 1024:
            raise ConfigError(f"features must be in 1..1024, but is {self.features}.")
        fill_slots(self, _SLOTS)


class RadianceField(PartedField):
    """A radiance field in a domain.

    Args:
        config: What it is made of.
        domain: Where it lives.
        seed: Of the initial weights.
    """

    slots = _SLOTS

    def __init__(self, config: RadianceConfig, domain: Domain, seed: int = 0) -> None:
        super().__init__()
        generator = Generator().manual_seed(seed)
        self.config = config
        self.domain = domain
        self.encoder = build_encoder(config.encoder, 3, generator)
        self.density_head = build_head(
            config.density_head, self.encoder.out_dim, config.features, generator
        )
        self.gate = None if config.gate is None else build_gate(config.gate, 3, generator)
        self.direction_encoder = self._encoder(config.direction_encoder, generator)
        self.appearance_encoder = self._encoder(config.appearance_encoder, generator)
        conditions, features = self.direction_encoder, self.appearance_encoder
        width = config.features if features is None else features.out_dim
        width += 0 if conditions is None else conditions.out_dim
        self.color_head = build_head(config.color_head, width, 3, generator)

    @staticmethod
    def _encoder(config: dict[str, Any] | None, generator: Generator) -> Any:
        return None if config is None else build_encoder(config, 3, generator)

    @property
    def pointwise(self) -> bool:
        """Whether density is a function of the place, and colour of place and direction, alone."""
        whole = all(getattr(part, "pointwise", True) for part in self.parts().values())
        return whole and not getattr(self.density_head, "wants_directions", False)

    def density(
        self, positions: Float[Tensor, "N 3"], samples: Samples | None = None
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, "N F"]]:
        """Density per world length, and the features that `color` takes.

        Outside the domain density and its gradient are 0. In closed cells of a gate both results are 0, and nothing is
        evaluated.

        Args:
            positions: World units.
            samples: Those whose positions these are, all samples of each ray. A field that is not pointwise needs them:
                without, each point is a ray of its own, seen from no direction in particular.
        """
        unit, inside = self.domain.place(positions)
        there = self.gate.open(unit) if isinstance(self.gate, Closing) else None
        if there is None or there.all():
            return self._density(unit, inside, samples)
        rows = there.nonzero()[:, 0]
        asked = None if samples is None else samples.take(rows, samples.ray_offsets)
        unit_there, inside_there = unit.index_select(0, rows), inside.index_select(0, rows)
        sigma, features = self._density(unit_there, inside_there, asked)
        whole = unit.new_zeros(len(unit)), unit.new_zeros(len(unit), features.shape[1])
        return whole[0].index_copy(0, rows, sigma), whole[1].index_copy(0, rows, features)

    def _density(
        self, unit: Tensor, inside: Tensor, samples: Samples | None
    ) -> tuple[Tensor, Tensor]:
        encoded, factor = self.encoder(unit), None
        if self.gate is not None:
            encoded, factor = self.gate(unit, encoded)
        rays = None if samples is None else samples.ray_ids

        def seen_at() -> Tensor | None:
            if not getattr(self.density_head, "wants_directions", False):
                return unit
            return None if samples is None else samples.seen_along()

        features = decode(self.density_head, seen_at, encoded, rays=rays)
        gain = self.config.density_gain / self.domain.scale
        sigma = density(features, inside, self.config.density, gain)
        return sigma if factor is None else sigma * factor, features

    def color(self, samples: Samples, features: Float[Tensor, "N F"]) -> Float[Tensor, "N 3"]:
        """Colour (sRGB in [0, 1]) of samples, seen along their rays."""
        if self.appearance_encoder is not None:
            features = self.appearance_encoder(self.domain.place(samples.positions)[0])
        conditions, rows = self.conditions(samples.directions), samples.ray_ids
        given = () if conditions is None else (conditions, rows)
        raw = decode(self.color_head, samples.seen_along, features, *given, rays=rows)
        return torch.sigmoid(raw) if self.config.color == "sigmoid" else raw

    def conditions(self, directions: Float[Tensor, "R 3"]) -> Float[Tensor, "R C"] | None:
        """Encode the directions of rays, as the colour head takes them; None where it takes none."""
        if self.direction_encoder is None:
            return None
        encoded: Tensor = self.direction_encoder(directions)
        return encoded.contiguous()
