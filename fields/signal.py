"""Signal fields: what is known directly at coordinates, such as the colours of an image.

coordinates in [0, 1]^D -> encoder -> head -> values
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from polyfield.errors import ConfigError
from polyfield.fields.parted import PartedField, decode, fill_slots
from polyfield.fields.registry import build_encoder, build_head

__all__ = ["Globe", "Picture", "SignalConfig", "SignalField", "Solid", "UnsignedField"]

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

    dim: ClassVar[int] = 2

    @staticmethod
    def points(ids: Int64[Tensor, " N"], width: int, height: int) -> Float[Tensor, "N 2"]:
        """Centres of pixels (row * width + column) of a picture of any size, in the unit square."""
        return _centres(ids, width, height)


@dataclass(frozen=True)
class Globe:
    """The domain of a function on the sphere: its points are (direction + 1) / 2 in the unit cube.

    Drawn, and given as an image, it is a picture of pixels of equal angles: longitude -180 to 180 degrees from left to
    right, latitude 90 to -90 downwards. Longitude 0 on the equator is x, 90 is y, the north pole is z.

    Attributes:
        width, height: Of the picture that it was fitted to, 1 to 2^20 pixels.
        channels: 3 or 4, as of a `Picture`.
    """

    width: int
    height: int
    channels: int = 3

    def __post_init__(self) -> None:
        Picture(self.width, self.height, self.channels)

    dim: ClassVar[int] = 3

    @staticmethod
    def points(ids: Int64[Tensor, " N"], width: int, height: int) -> Float[Tensor, "N 3"]:
        """Where the centres of pixels (row * width + column) lie on the sphere, in the unit cube."""
        u, v = _centres(ids, width, height).unbind(1)
        longitude, latitude = (2.0 * u - 1.0) * math.pi, (0.5 - v) * math.pi
        ring = latitude.cos()
        place = [ring * longitude.cos(), ring * longitude.sin(), latitude.sin()]
        return (torch.stack(place, 1) + 1.0) / 2.0


@dataclass(frozen=True)
class Solid:
    """The domain of a shape: the cube [-1, 1]^3 in which the mesh was placed, as the unit cube.

    Attributes:
        center: The mesh's coordinates that became the origin.
        scale: Of the cube, in the mesh's units: placed = (original - center) * scale.
    """

    center: tuple[float, float, float]
    scale: float

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ConfigError(f"A shape's scale must be above 0, but is {self.scale}.")

    dim: ClassVar[int] = 3
    channels: ClassVar[int] = 1


def _centres(ids: Tensor, width: int, height: int) -> Tensor:
    place = torch.stack([ids % width, ids // width], 1)
    return (place.float() + 0.5) / torch.tensor([width, height])


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
        return decode(self.head, lambda: unit, self.encoder(unit))


class UnsignedField(SignalField):
    """A distance that has no sign: the size of what a signal field says.

    On both sides of a sheet a distance grows at the rate of 1; between them it has a kink, which no smooth function
    has. What passes through 0 there has it once its sign is dropped. Where a surface ends the sign is free to change.
    """

    def forward(self, unit: Float[Tensor, "N D"]) -> Float[Tensor, "N O"]:
        """Distances at points of [0, 1]^D, 0 or more."""
        return super().forward(unit).abs()
