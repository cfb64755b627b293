"""What renderers give, and what is asked of them."""

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

__all__ = ["Rendered", "Renderer"]


@dataclass
class Rendered:
    """What R rays see.

    Attributes:
        color: sRGB in [0, 1], the background included.
        depth: Mean distance along the ray to what is seen, weighted by opacity; 0 where nothing is. World units.
        opacity: In [0, 1].
        samples: How many samples were evaluated.
    """

    color: Float[Tensor, "R 3"]
    depth: Float[Tensor, " R"]
    opacity: Float[Tensor, " R"]
    samples: int


class Renderer(Protocol):
    """Draws one model."""

    def render_rays(
        self,
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        background: Float[Tensor, "R 3"],
    ) -> Rendered:
        """Draw rays; directions are unit vectors, everything in world units."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Tensors that the model's file keeps for this renderer."""
        ...
