"""Radiance fields: density anywhere, colour anywhere in a direction.

position -> domain -> encoder -> density head -> [log density, features]
[features, encoded direction] -> colour head -> rgb
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from polyfield.errors import ConfigError, nearest
from polyfield.fields.domain import Domain
from polyfield.fields.ops.density import ACTIVATIONS, density
from polyfield.fields.registry import ParameterGroup, build_encoder, build_head, complete
from polyfield.fields.samples import Samples

__all__ = ["RadianceConfig", "RadianceField"]


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
    """

    encoder: dict[str, Any]
    density_head: dict[str, Any]
    direction_encoder: dict[str, Any] | None
    color_head: dict[str, Any]
    features: int = 16
    density: str = "exp"
    color: str = "sigmoid"
    density_gain: float = 1.0

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
        object.__setattr__(self, "encoder", complete("encoders", self.encoder))
        object.__setattr__(self, "density_head", complete("heads", self.density_head))
        object.__setattr__(self, "color_head", complete("heads", self.color_head))
        if self.direction_encoder is not None:
            filled = complete("encoders", self.direction_encoder)
            object.__setattr__(self, "direction_encoder", filled)


class RadianceField(nn.Module):
    """A radiance field in a domain.

    Args:
        config: What it is made of.
        domain: Where it lives.
        seed: Of the initial weights.
    """

    def __init__(self, config: RadianceConfig, domain: Domain, seed: int = 0) -> None:
        super().__init__()
        generator = Generator().manual_seed(seed)
        self.config = config
        self.domain = domain
        self.encoder = build_encoder(config.encoder, 3, generator)
        self.density_head = build_head(
            config.density_head, self.encoder.out_dim, config.features, generator
        )
        self.direction_encoder = None
        width = 0
        if config.direction_encoder is not None:
            self.direction_encoder = build_encoder(config.direction_encoder, 3, generator)
            width = self.direction_encoder.out_dim
        self.color_head = build_head(config.color_head, config.features + width, 3, generator)

    def density(
        self, positions: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, "N F"]]:
        """Density per world length, and the features that `color` takes.

        Outside the domain density and its gradient are 0.
        """
        unit, inside = self.domain.place(positions)
        features = self.density_head(self.encoder(unit))
        gain = self.config.density_gain / self.domain.scale
        return density(features, inside, self.config.density, gain), features

    def color(self, samples: Samples, features: Float[Tensor, "N F"]) -> Float[Tensor, "N 3"]:
        """Colour (sRGB in [0, 1]) of samples, seen along their rays."""
        conditions = self.conditions(samples.directions)
        if conditions is None:
            raw = self.color_head(features)
        else:
            raw = self.color_head(features, conditions, samples.ray_ids)
        return torch.sigmoid(raw) if self.config.color == "sigmoid" else raw

    def conditions(self, directions: Float[Tensor, "R 3"]) -> Float[Tensor, "R C"] | None:
        """Encode the directions of rays, as the colour head takes them; None where it takes none."""
        if self.direction_encoder is None:
            return None
        encoded: Tensor = self.direction_encoder(directions)
        return encoded.contiguous()

    def groups(self) -> list[ParameterGroup]:
        """List what is trained, with the slot's name before the part's own."""
        parts = {
            "encoder": self.encoder,
            "density_head": self.density_head,
            "direction_encoder": self.direction_encoder,
            "color_head": self.color_head,
        }
        groups = []
        for slot, part in parts.items():
            for group in part.groups() if part is not None else []:
                group.name = f"{slot}.{group.name}"
                groups.append(group)
        return groups
