"""Signal fields: what is known directly at coordinates, such as the colours of an image.

coordinates in [0, 1]^D -> encoder -> head -> values
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Generator, Tensor

from polyfield.errors import ConfigError
from polyfield.fields.parted import PartedField, fill_slots
from polyfield.fields.registry import build_encoder, build_head

__all__ = ["Picture", "SignalConfig", "SignalField"]

_SLOTS = {"encoder": "encoders", "head": "heads"}


@dataclass(frozen=True)
class Picture:
    """The domain of an image: the unit square, x to the right and y down, over width x height pixels.

    Attributes:
        width, height: In pixels, 1 to 2^20.
        channels: 3 for RGB, 4 for RGB that is multiplied by alpha, and alpha.
    """

    width: int
    height: int
    channels: int = 3

    def __post_init__(self) -> None:
        if not (1 <= self.width <= 2**20 and 1 <= self.height <= 2**20):
            raise ConfigError(
                f"An image has sides of 1 to 2^20 pixels, not {self.width}x{self.height}."
            )
        if self.channels not in (3, 4):
            raise ConfigError(f"An image field has 3 or 4 channels, not {self.channels}.")


@dataclass(frozen=True)
class SignalConfig:
    """What a signal field is made of.

    Attributes:
        encoder: Of coordinates.
        head: Gives the values.
    """

    encoder: dict[str, Any]
    head: dict[str, Any]

    def __post_init__(self) -> None:
        fill_slots(self, _SLOTS)


class SignalField(PartedField):
    """A function of coordinates.

    Args:
        config: What it is made of.
        dim: D, the number of coordinates.
        outputs: Number of values at each point.
        seed: Of the initial weights.

    Example:
        >>> import torch
        >>> config = SignalConfig({"kind": "frequency"}, {"kind": "mlp"})
        >>> SignalField(config, dim=2, outputs=3)(torch.rand(5, 2)).shape
        torch.Size([5, 3])
    """

    slots = _SLOTS

    def __init__(self, config: SignalConfig, dim: int, outputs: int, seed: int = 0) -> None:
        super().__init__()
        generator = Generator().manual_seed(seed)
        self.config = config
        self.dim, self.outputs = dim, outputs
        self.encoder = build_encoder(config.encoder, dim, generator)
        self.head = build_head(config.head, self.encoder.out_dim, outputs, generator)

    def forward(self, unit: Float[Tensor, "N D"]) -> Float[Tensor, "N O"]:
        """Values at points of [0, 1]^D."""
        encoded = self.encoder(unit)
        wanted = getattr(self.head, "wants_coordinates", False)
        values: Tensor = self.head(encoded, coordinates=unit) if wanted else self.head(encoded)
        return values
